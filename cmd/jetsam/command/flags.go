package command

import (
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
)

// needs says which of the shared flags a command's help shows. Every command takes all of them, so that an alias like
// `jetsam --repo /srv/backup --server nats://n1` goes with any command.
type needs uint8

const (
	needsRepository needs = 1 << iota
	needsServer
	needsSnapshots // choosing snapshots by host, account, stream and tag
	namesAccount   // which nobody else tells
	scheduled      // run by cron and the like
)

// Headings of the shared flags in a command's help.
const (
	repositoryHeading = "Repository"
	serverHeading     = "NATS connection"
	outputHeading     = "Output"
	snapshotHeading   = "Choosing the snapshot"
)

// withShared appends the flags that every command takes to its own.
func withShared(n needs, own ...cli.Flag) []cli.Flag {
	flags := append([]cli.Flag(nil), own...)
	if n&needsSnapshots != 0 {
		flags = append(flags, snapshotFlags()...)
	}
	flags = append(flags, repositoryFlags(n&needsRepository == 0)...)
	flags = append(flags, serverFlags(n)...)
	flags = append(flags, metricsFlags(n&scheduled == 0)...)
	return append(flags, outputFlags()...)
}

func repositoryFlags(hidden bool) []cli.Flag {
	text := func(name, alias, env, value, usage string) cli.Flag {
		f := &cli.StringFlag{Name: name, Usage: usage, Category: repositoryHeading, Hidden: hidden, DefaultText: value}
		if alias != "" {
			f.Aliases = []string{alias}
		}
		if env != "" {
			f.EnvVars = []string{env}
		}
		return f
	}
	return []cli.Flag{
		text("repo", "r", "JETSAM_REPOSITORY", "", "where the repository is: the `LOCATION` is a directory, or sftp:user@host:path, rest:URL, s3:https://host/bucket, azure:container:/, gs:bucket:/, rclone:remote:path or nats:CONTEXT@STREAM"),
		&cli.StringSliceFlag{Name: "option", Aliases: []string{"o"}, Usage: "what the way to the repository lets one choose: `NAME=VALUE`", Category: repositoryHeading, Hidden: hidden},
		text("repository-file", "", "JETSAM_REPOSITORY_FILE", "", "`FILE` that holds the location"),
		text("password-file", "p", "JETSAM_PASSWORD_FILE", "", "`FILE` that holds the repository's password"),
		text("password-command", "", "JETSAM_PASSWORD_COMMAND", "", "`COMMAND` that prints the password; run without a shell"),
		&cli.BoolFlag{Name: "insecure-no-password", DisableDefaultText: true, Usage: "use an empty password", Category: repositoryHeading, Hidden: hidden},
		text("key-hint", "", "JETSAM_KEY_HINT", "", "`ID` of the key to try first"),
		&cli.BoolFlag{Name: "no-lock", DisableDefaultText: true, Usage: "do not lock the repository; for readers of one that cannot be written to", Category: repositoryHeading, Hidden: hidden},
		&cli.StringFlag{Name: "retry-storage", Usage: "keep trying for `DURATION` where the way to a storage elsewhere is disturbed", Category: repositoryHeading, Hidden: hidden, DefaultText: defaultRetryStorage},
		&cli.UintFlag{Name: "limit-upload", Usage: "send at most `KiB` a second to a storage elsewhere", Category: repositoryHeading, Hidden: hidden, DefaultText: "no limit"},
		&cli.UintFlag{Name: "limit-download", Usage: "fetch at most `KiB` a second from it", Category: repositoryHeading, Hidden: hidden, DefaultText: "no limit"},
		&cli.StringFlag{Name: "retry-lock", Usage: "keep trying for `DURATION` while another holds the lock", Category: repositoryHeading, Hidden: hidden},
		&cli.BoolFlag{Name: "no-cache", DisableDefaultText: true, Usage: "keep no local copies of what a repository elsewhere holds", Category: repositoryHeading, Hidden: hidden},
		text("cache-dir", "", "JETSAM_CACHE_DIR", "", "`DIRECTORY` for such copies; named here, it serves repositories in directories too"),
		text("compression", "", "JETSAM_COMPRESSION", "", "`MODE` for what is written: auto, off, fastest, better or max"),
		&cli.UintFlag{Name: "pack-size", Usage: "target size of pack files in `MiB`, 4 to 128", EnvVars: []string{"JETSAM_PACK_SIZE"}, Category: repositoryHeading, Hidden: hidden, DefaultText: "16"},
	}
}

func serverFlags(n needs) []cli.Flag {
	hidden := n&needsServer == 0
	text := func(name, alias, env, usage string) cli.Flag {
		f := &cli.StringFlag{Name: name, Usage: usage, Category: serverHeading, Hidden: hidden}
		if alias != "" {
			f.Aliases = []string{alias}
		}
		if env != "" {
			f.EnvVars = []string{env}
		}
		return f
	}
	account := &cli.StringFlag{Name: "account", Usage: "what to call the account where the server does not tell its `NAME`", Category: serverHeading, Hidden: hidden}
	switch {
	case n&namesAccount != 0:
		account = &cli.StringFlag{Name: "account", Usage: "call the account that the streams are of `NAME`", DefaultText: backup.ImportAccount}
	case n&needsSnapshots != 0:
		account = &cli.StringFlag{Name: "account", Usage: "only snapshots of the account `NAME`", Category: snapshotHeading}
	}
	return []cli.Flag{
		text("server", "s", "NATS_URL", "`URL`s of the server, with commas between them"),
		text("context", "", "NATS_CONTEXT", "`NAME` of a context saved by the nats CLI"),
		text("creds", "", "NATS_CREDS", "credentials `FILE`"),
		text("nkey", "", "NATS_NKEY", "`FILE` with an nkey seed"),
		text("nats-user", "", "NATS_USER", "`USER` name, or a token"),
		text("nats-password", "", "NATS_PASSWORD", "the user's `PASSWORD`; process lists show it, so prefer the environment or a context"),
		text("tlscert", "", "NATS_CERT", "`FILE` with the client's certificate"),
		text("tlskey", "", "NATS_KEY", "`FILE` with the client's key"),
		text("tlsca", "", "NATS_CA", "`FILE` with the authority that signed the server's certificate"),
		&cli.BoolFlag{Name: "tlsfirst", DisableDefaultText: true, Usage: "begin with TLS, before the server speaks", Category: serverHeading, Hidden: hidden},
		text("js-domain", "", "NATS_JS_DOMAIN", "JetStream `DOMAIN`"),
		text("js-api-prefix", "", "NATS_JS_API_PREFIX", "`PREFIX` of the JetStream API's subjects"),
		text("inbox-prefix", "", "NATS_INBOX_PREFIX", "`PREFIX` of inboxes"),
		&cli.DurationFlag{Name: "timeout", Usage: "how long to wait for one answer of the server: a `DURATION`", EnvVars: []string{"NATS_TIMEOUT"}, Category: serverHeading, Hidden: hidden, Value: defaultTimeout, DefaultText: defaultTimeout.String()},
		account,
	}
}

// defaultTimeout is the nats CLI's.
const defaultTimeout = 5 * time.Second

func outputFlags() []cli.Flag {
	flag := func(name, alias, usage string) cli.Flag {
		f := &cli.BoolFlag{Name: name, DisableDefaultText: true, Usage: usage, Category: outputHeading}
		if alias != "" {
			f.Aliases = []string{alias}
		}
		return f
	}
	return []cli.Flag{
		flag("json", "", "one JSON object a line, for programs"),
		flag("quiet", "q", "nothing on stderr but warnings and errors"),
		flag("verbose", "v", "say more"),
		flag("no-progress", "", "no progress on stderr"),
	}
}

// snapshotFlags choose snapshots; --account is among the server's flags.
func snapshotFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "host", Usage: "only snapshots of `HOST`, the cluster's or server's name", Category: snapshotHeading},
		&cli.StringSliceFlag{Name: "stream", Usage: "only snapshots that were told to hold the stream `NAME`", Category: snapshotHeading},
		&cli.StringSliceFlag{Name: "tag", Usage: "only snapshots with all of `TAG[,TAG…]`; given twice, with either", Category: snapshotHeading},
	}
}
