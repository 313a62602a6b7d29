package main

// streaming: a repository in a stream holds what was acknowledged, and shows nothing that is not whole.
func streaming() []mutant {
	return []mutant{
		{
			promise: "of two that save a file one is told that it exists",
			file:    "storage/nats/write.go",
			old:     `	header[natsgo.ExpectedLastSubjSeqHdr] = []string{"0"}` + "\n",
			new:     "",
			pkg:     inNATS, run: "^TestBackend$",
		},
		{
			promise: "also where their files differ in length",
			file:    "storage/nats/write.go",
			old:     `	header["Nats-Expected-Last-Subject-Sequence-Subject"] = []string{b.headSubject(f, "*")}` + "\n",
			new:     "",
			pkg:     inNATS, run: "^TestBackend$",
		},
		{
			promise: "what was removed leaves nothing",
			file:    "storage/nats/write.go",
			old:     `	_, err = b.purge(ctx, b.chunkSubject(f, "*"))` + "\n	return err",
			new:     "	return nil",
			pkg:     inNATS, run: "^TestRemoveLeavesNothing$",
		},
		{
			promise: "an upload that failed leaves nothing",
			file:    "storage/nats/write.go",
			old:     "		b.tidy(ctx, b.chunkSubject(f, upload))\n		return err\n",
			new:     "		return err\n",
			pkg:     inNATS, run: "^TestFull$",
		},
		{
			promise: "a full stream is told from other failures",
			file:    "storage/nats/ask.go",
			old:     "		return storage.ErrFull\n",
			new:     "		return nil\n",
			pkg:     inNATS, run: "^TestFull$",
		},
		{
			promise: "a server that restarts is waited for",
			file:    "storage/nats/ask.go",
			old:     "if !again || time.Now().Add(pause).After(end) {",
			new:     "if true || !again || time.Now().Add(pause).After(end) {",
			pkg:     inNATS, run: "^TestRestart$",
		},
		{
			promise: "what somebody is storing is not swept",
			file:    "storage/nats/sweep.go",
			old:     "		case time.Since(last.time) < age:\n",
			new:     "		case time.Since(last.time) < 0:\n",
			pkg:     inNATS, run: "^TestInterruptedUpload$",
		},
		{
			promise: "chunks of a file are not swept",
			file:    "storage/nats/sweep.go",
			old:     `		if there[fileToken(strings.TrimPrefix(subject, b.prefix()+"c."))] {` + "\n			continue\n		}\n",
			new:     "",
			pkg:     inNATS, run: "^TestInterruptedUpload$",
		},
		{
			promise: "a stream that loses messages holds no repository",
			file:    "storage/nats/stream.go",
			old:     `c.MaxAge != 0, `,
			new:     "",
			pkg:     inNATS, run: "^TestUnfit$",
		},
		{
			promise: "a chunk of another file is not taken for this one's",
			file:    "storage/nats/read.go",
			old:     "if errors.Is(err, storage.ErrNotExist) {\n		return nil, errChunk\n	}",
			new:     "if errors.Is(err, storage.ErrNotExist) {\n		return make([]byte, h.chunk), nil\n	}",
			pkg:     inNATS, run: "^TestDamage$",
		},
		{
			promise: "a head is held to the length of what it lists",
			file:    "storage/nats/read.go",
			old:     "if len(m.data)%8 != 0 || h.size <= (n-1)*h.chunk || h.size > n*h.chunk {",
			new:     "if len(m.data)%8 != 0 {",
			pkg:     inNATS, run: "^TestDamage$",
		},
		{
			promise: "no backup into the servers that it is of",
			file:    "cmd/jetsam/command/apart.go",
			old:     "	case !allowed:\n",
			new:     "	case false && !allowed:\n",
			pkg:     inTests, run: "^TestRepositoryAmongItsServers$",
		},
		{
			promise: "the repository's stream is not backed up into itself",
			file:    "cmd/jetsam/command/apart.go",
			old:     "	o.Selection.Exclude = append(slices.Clone(o.Selection.Exclude), stream)\n",
			new:     "	_ = slices.Clone(o.Selection.Exclude)\n",
			pkg:     inTests, run: "^TestRepositoryAmongItsServers$",
		},
		{
			promise: "no password in a location",
			file:    "storage/location/nats.go",
			old:     `	if strings.Contains(address, "@") {`,
			new:     `	if false {`,
			pkg:     "./storage/location", run: "^TestStreams$",
		},
		{
			promise: "a context that does not exist is not waited for",
			file:    "storage/nats/nats.go",
			old:     `storage.Permanent(fmt.Errorf("load NATS context: %w", err))`,
			new:     `fmt.Errorf("load NATS context: %w", err)`,
			pkg:     inNATS, run: "^TestNotTriedAgain$",
		},
		{
			promise: "nor are credentials that are refused or not there",
			file:    "storage/nats/nats.go",
			old:     "			err = storage.Permanent(err)\n",
			new:     "",
			pkg:     inNATS, run: "^TestNotTriedAgain$",
		},
	}
}
