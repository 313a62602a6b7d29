package main

// surveying: what a disaster has left is told as it is, and what exists is not taken for missing.
func surveying() []mutant {
	return []mutant{
		{
			promise: "a restore of what is missing touches nothing that exists",
			file:    "restore/existing.go",
			old:     "	case o.Existing == MissingOnly:\n",
			new:     "	case o.Existing == MissingOnly && !unfinished:\n",
			pkg:     inTests, run: "^TestMissing$",
		},
		{
			promise: "what a killed restore left is not passed over in silence",
			file:    "restore/existing.go",
			old:     "	case unfinished:\n		s.LeftAlone = ",
			new:     "	case unfinished:\n		_ = ",
			pkg:     inTests, run: "^TestMissing$",
		},
		{
			promise: "a stream of which no server tells is not missing",
			file:    "restore/existing.go",
			old:     "		if why := unheard[s.Name]; why != nil {",
			new:     "		if why := unheard[s.Name]; why != nil && false {",
			pkg:     inTests, run: "^TestSurveyOfACluster$",
		},
		{
			promise: "a stream that went back is told",
			file:    "restore/survey.go",
			old:     "	if info.LastSeq < s.log.state.LastSeq {",
			new:     "	if info.LastSeq < s.log.state.LastSeq && !same {",
			pkg:     inTests, run: "^TestSurvey$",
		},
		{
			promise: "a stream that was created again is not the one that was",
			file:    "restore/survey.go",
			old:     "	same := created.IsZero() || created.Equal(info.Created)",
			new:     "	same := created.IsZero() || !created.IsZero()",
			pkg:     inTests, run: "^TestSurvey$",
		},
		{
			promise: "a stream with other messages at the same sequences is told",
			file:    "restore/survey.go",
			old:     "	case seq > 0 && !equal:",
			new:     "	case seq > 0 && !equal && !same:",
			pkg:     inTests, run: "^TestSurvey$",
		},
		{
			promise: "a consumer that went back is told",
			file:    "restore/survey.go",
			old:     "	if is < was {",
			new:     "	if is < was && got.Cluster != nil {",
			pkg:     inTests, run: "^TestSurvey$",
		},
		{
			promise: "a stream that is about to choose a leader is left alone, and one that cannot is told",
			file:    "jetstream/stream.go",
			old:     "	return there > all/2",
			new:     "	return there > all/3",
			pkg:     inJetstream, run: "^TestQuorum$",
		},
		{
			promise: "a leader counts for its quorum",
			file:    "jetstream/stream.go",
			old:     "		there, all = 1, all+1",
			new:     "		there, all = 0, all+1",
			pkg:     inJetstream, run: "^TestQuorum$",
		},
	}
}
