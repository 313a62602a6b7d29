package command

import "github.com/urfave/cli/v2"

// commands are all commands, in the order of help.
func (p *program) commands() []*cli.Command {
	return []*cli.Command{
		p.initCommand(),
		p.backupCommand(),
		p.importCommand(),
		p.copyCommand(),
		p.snapshotsCommand(),
		p.lsCommand(),
		p.restoreCommand(),
		p.exportCommand(),
		p.dumpCommand(),
		p.replayCommand(),
		p.findCommand(),
		p.diffCommand(),
		p.checkCommand(),
		p.repairCommand(),
		p.verifyCommand(),
		p.forgetCommand(),
		p.pruneCommand(),
		p.rewriteCommand(),
		p.tagCommand(),
		p.protectCommand(true),
		p.protectCommand(false),
		p.doctorCommand(),
		p.statsCommand(),
		p.keyCommand(),
		p.unlockCommand(),
		p.listCommand(),
		p.cacheCommand(),
		p.catCommand(),
		p.demoCommand(),
		p.versionCommand(),
		p.completionCommand(),
		p.helpCommand(),
		p.completeCommand(),
	}
}
