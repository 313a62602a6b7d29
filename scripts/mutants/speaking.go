package main

// speaking: exit codes say what happened, and nothing says what is secret.
func speaking() []mutant {
	return []mutant{
		{
			promise: "a full disk is exit code 24",
			file:    "cmd/jetsam/command/exit.go",
			old:     "{storage.ErrFull, ending{exitStorage,",
			new:     "{storage.ErrFull, ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a locked repository is exit code 11",
			file:    "cmd/jetsam/command/exit.go",
			old:     "return ending{exitLocked,",
			new:     "return ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a wrong password is exit code 12",
			file:    "cmd/jetsam/command/exit.go",
			old:     "ending{exitPassword,",
			new:     "ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
		{
			promise: "a backup that lacks a stream is exit code 3",
			file:    "backup/backup.go",
			old:     `return s.Err == nil && s.Torn == ""`,
			new:     `return true || s.Err == nil && s.Torn == ""`,
			pkg:     inProgram, run: "^TestScripts/denied$",
		},
		{
			promise: "a torn backup is exit code 3",
			file:    "backup/backup.go",
			old:     `return s.Err == nil && s.Torn == ""`,
			new:     `return s.Err == nil`,
			pkg:     inTests, run: "^TestPurgeInMidCapture$",
		},
		{
			promise: "damage that check found is an error",
			file:    "cmd/jetsam/command/check.go",
			old:     "case !r.Damaged:",
			new:     "case true || !r.Damaged:",
			pkg:     inProgram, run: "^TestScripts/damage$",
		},
		{
			promise: "a secret prints as ***",
			file:    "secret/secret.go",
			old:     "_, _ = f.Write([]byte(mask))",
			new:     "_, _ = f.Write([]byte(s.Reveal()))",
			pkg:     inSecret, run: "^TestNoVerbPrintsTheText$",
		},
		{
			promise: "addresses are printed without who connects",
			file:    "secret/url.go",
			old:     `return userInfo.ReplaceAllString(text, "${1}"+URLMask+"@")`,
			new:     "return text",
			pkg:     inSecret, run: "^TestHideUserInfo$",
		},
		{
			promise: "errors hold no credentials, however badly the address is formed",
			file:    "jetstream/redact.go",
			old:     `s = strings.ReplaceAll(s, k+"@", mask+"@")`,
			new:     "_ = k",
			pkg:     inJetstream, run: "^TestErrorsHoldNoCredentials$",
		},
		{
			promise: "a command that is run for the password learns no secret",
			file:    "cmd/jetsam/command/private.go",
			old:     "return slices.Contains(secretVariables, name) ||",
			new:     "return",
			pkg:     inCommand, run: "^TestCommandsLearnNoSecret$",
		},
		{
			promise: "files that others may read are warned of",
			file:    "cmd/jetsam/command/private.go",
			old:     "mode&othersMay != 0 {",
			new:     "false && mode&othersMay != 0 {",
			pkg:     inProgram, run: "^TestScripts/password$",
		},
		{
			promise: "the process cannot be looked into",
			file:    "cmd/jetsam/harden_linux.go",
			old:     "unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)",
			new:     "_ = unix.PR_SET_DUMPABLE",
			pkg:     inTests, run: "^TestUndumpable$",
		},
		{
			promise: "errors of the NATS library are redacted",
			file:    "jetstream/errors.go",
			old:     "return errors.New(r.text(err.Error()))",
			new:     "return err",
			pkg:     inJetstream, run: "^TestErrorsHoldNoCredentials$",
		},
	}
}
