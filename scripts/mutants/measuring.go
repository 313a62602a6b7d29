package main

// measuring: what Prometheus is told is so.
func measuring() []mutant {
	return []mutant{
		{
			promise: "a run that failed is no success for Prometheus",
			file:    "metrics/metrics.go",
			old:     "if r.ExitCode == 0 {",
			new:     "if r.ExitCode != 3 {",
			pkg:     inMetrics, run: "^TestFileKeeps$",
		},
		{
			promise: "a stream that was not backed up is told of",
			file:    "metrics/metrics.go",
			old:     "	if s.OK {\n		ok = 1\n	}",
			new:     "	ok = 1",
			pkg:     inMetrics, run: "^TestFile$",
		},
		{
			promise: "what a run has nothing to say of stays in the file",
			file:    "metrics/file.go",
			old:     "		now = append(now, earlier[name])\n",
			new:     "		_ = earlier[name]\n",
			pkg:     inMetrics, run: "^TestFileKeeps$",
		},
		{
			promise: "no password of a Pushgateway is in an error",
			file:    "metrics/push.go",
			old:     "	u.User = nil\n",
			new:     "",
			pkg:     inMetrics, run: "^TestPushFails$",
		},
		{
			promise: "metrics that a server sent elsewhere are not pushed",
			file:    "metrics/push.go",
			old:     "return http.ErrUseLastResponse",
			new:     "return nil",
			pkg:     inMetrics, run: "^TestPushIsNotSentOn$",
		},
		{
			promise: "no metric is told twice",
			file:    "metrics/metrics.go",
			old:     "range merged(r.Accounts)",
			new:     "range r.Accounts",
			pkg:     inMetrics, run: "^TestAccountTwice$",
		},
	}
}
