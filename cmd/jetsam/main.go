// Command jetsam backs up NATS JetStream streams into a repository that restic reads, and restores them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"jetsam/cmd/jetsam/command"
)

func main() { os.Exit(run()) }

// run executes the command line. The first SIGINT or SIGTERM lets the command end in order, the second ends the process.
func run() int {
	harden()
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away must not leave a lock behind
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(command.NewInterrupt(<-signals))
		os.Exit(command.NewInterrupt(<-signals).ExitCode())
	}()
	sys := command.System{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	return command.Run(ctx, sys, os.Args[1:])
}
