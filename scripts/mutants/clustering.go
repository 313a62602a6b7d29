package main

// clustering: leaders change and servers go away, and nothing is lost or mistaken for something else.
func clustering() []mutant {
	return []mutant{
		{
			promise: "a server that answers for a stream without a leader is not believed",
			file:    "jetstream/stream.go",
			old:     `if err != nil || s.Cluster == nil || s.Cluster.Leader != "" {`,
			new:     "if true {",
			pkg:     inJetstream, run: "^TestStreamWithoutALeader$",
		},
		{
			promise: "streams without a leader are asked for together",
			file:    "jetstream/list.go",
			old:     "g.SetLimit(askers)",
			new:     "g.SetLimit(1)",
			pkg:     inJetstream, run: "^TestManyStreamsWithoutALeader$",
		},
		{
			promise: "a stream that is offline may come back",
			file:    "jetstream/errors.go",
			old:     "case 10118, 10119:",
			new:     "case 10119:",
			pkg:     inJetstream, run: "^TestOfflineIsUnreachable$",
		},
		{
			promise: "a restored stream is the same when another leads it",
			file:    "jetstream/stream.go",
			old:     "if !restored || s.Cluster == nil || later.Cluster == nil || s.Cluster.Leader == later.Cluster.Leader {",
			new:     "if !restored || s.Cluster != nil {",
			pkg:     inJetstream, run: "^TestSameStream$",
		},
		{
			promise: "a stream that was never restored has one date of creation",
			file:    "jetstream/stream.go",
			old:     "restored := s.FirstTime.Before(s.Created)",
			new:     "restored := true",
			pkg:     inJetstream, run: "^TestSameStream$",
		},
		{
			promise: "another first message is another stream",
			file:    "jetstream/stream.go",
			old:     "(later.FirstSeq > s.FirstSeq || later.FirstTime.Equal(s.FirstTime)) && ",
			new:     "",
			pkg:     inJetstream, run: "^TestSameStream$",
		},
		{
			promise: "another last message is another stream",
			file:    "jetstream/stream.go",
			old:     "&& (later.LastSeq > s.LastSeq || later.LastTime.Equal(s.LastTime))",
			new:     "",
			pkg:     inJetstream, run: "^TestSameStream$",
		},
		{
			promise: "a stream that nobody leads does not keep the others from being backed up",
			file:    "backup/backup.go",
			old:     "if errors.As(err, &missing) {",
			new:     "if false {",
			pkg:     inTests, run: "^TestClusterServerAway$",
		},
		{
			promise: "a stream that nobody leads does not keep the others from being restored",
			file:    "restore/preflight.go",
			old:     "if errors.As(err, &missing) {",
			new:     "if errors.As(err, &missing) && false {",
			pkg:     inTests, run: "^TestClusterServerAway$",
		},
		{
			promise: "a name that a stream without a leader has is taken",
			file:    "restore/preflight.go",
			old:     "		case there:\n",
			new:     "		case false:\n",
			pkg:     inTests, run: "^TestClusterServerAway$",
		},
		{
			promise: "a stream without a leader exists, and is skipped where what exists is",
			file:    "restore/preflight.go",
			old:     "o.Existing == MissingOnly || o.Existing == SkipExisting && o.Parts != ConsumersOnly",
			new:     "o.Existing == MissingOnly",
			pkg:     inTests, run: "^TestClusterServerAway$",
		},
		{
			promise: "it is said what to do about a setting that the server does not know",
			file:    "restore/cleanup.go",
			old:     "case isUnknownSetting(err):",
			new:     "case false:",
			pkg:     inTests, run: "^TestUnknownSettings$",
		},
		{
			promise: "a consumer that no server answers for does not keep its stream from being backed up whole",
			file:    "backup/consumers.go",
			old:     "if err != nil || len(failed) == 0 {\n		return nil, nil, why",
			new:     "if true {\n		return nil, nil, why",
			pkg:     inTests, run: "^TestClusterConsumersAway$",
		},
		{
			promise: "consumers that no server answers for are named in the snapshot of an increment",
			file:    "backup/increment.go",
			old:     "			Failed:         c.FailedConsumers,\n",
			new:     "",
			pkg:     inTests, run: "^TestClusterConsumersAway$",
		},
		{
			promise: "a stream without some of its consumers is not whole",
			file:    "backup/backup.go",
			old:     `s.Torn == "" && len(s.FailedConsumers) == 0 })`,
			new:     `s.Torn == "" })`,
			pkg:     inTests, run: "^TestClusterConsumersAway$",
		},
		{
			promise: "consumers of a cluster are said to be at their floor",
			file:    "backup/consumers.go",
			old:     `return b.server.Cluster != "" || c != nil`,
			new:     "return false",
			pkg:     inTests, run: "^TestClusterAccount$",
		},
	}
}
