// Command jetsam backs up NATS JetStream streams into a repository that restic reads, and restores them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"jetsam/cmd/jetsam/command"
)

func main() { os.Exit(run()) }

// run executes the command line. The first SIGINT or SIGTERM lets the command end in order, the second ends the process.
func run() int {
	harden()
	boundHeap()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a reader that goes away is an error of Write, not the end
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

// boundHeap lets the garbage collector run when the heap has grown by half, not to the double: most of it are buffers that are
// used again and again, so that it seldom has to, and the memory of a run stays small. Who sets GOGC gets that.
func boundHeap() {
	const percent = 50
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
