package main

// google: the same of what Google Cloud Storage says.
func google() []mutant {
	const (
		backend     = "storage/gs/gs.go"
		save        = "storage/gs/save.go"
		read        = "storage/gs/read.go"
		request     = "storage/gs/request.go"
		errs        = "storage/gs/errors.go"
		credentials = "storage/gs/credentials.go"
	)
	return []mutant{
		{
			promise: "nothing in a bucket of Google's is overwritten",
			file:    save,
			old:     `"ifGenerationMatch": {"0"}`,
			new:     `"ifGenerationMatch": {""}`,
			pkg:     inGS, run: "^TestLostReply$",
		},
		{
			promise: "the server compares what it stores with the sum of what was sent",
			file:    save,
			old:     `"md5Hash": sum[:]`,
			new:     `"md5Hash": sum[1:]`,
			pkg:     inGS, run: "^TestLostReply$",
		},
		{
			promise: "a save whose answer was lost is decided by looking",
			file:    save,
			old:     "return objects.Settle(ctx, file{b, f}, data, err)",
			new:     "_ = objects.Settle\n	return err",
			pkg:     inGS, run: "^TestLostReply$",
		},
		{
			promise: "another's bytes are not taken for those that were saved",
			file:    save,
			old:     "return objects.Settle(ctx, file{b, f}, data, err)",
			new:     "_ = objects.Settle\n	return nil",
			pkg:     inGS, run: "^TestLostReply$",
		},
		{
			promise: "a server that says that it stored less is not believed",
			file:    save,
			old:     "err != nil || n != int64(len(data))",
			new:     "err != nil || n > int64(len(data))",
			pkg:     inGS, run: "^TestStoredShort$",
		},
		{
			promise: "who may not delete learns that a file exists",
			file:    save,
			old:     "case status == http.StatusForbidden && errors.Is",
			new:     "case status == http.StatusTeapot && errors.Is",
			pkg:     inGS, run: "^TestMayNotDelete$",
		},
		{
			promise: "a server that passes over the condition does not get a config twice",
			file:    save,
			old:     "if f.Kind == storage.Config {\n		if err := b.absent",
			new:     "if f.Kind == storage.Lock {\n		if err := b.absent",
			pkg:     inGS, run: "^TestConfigIsLookedForFirst$",
		},
		{
			promise: "a list goes on to its last page",
			file:    read,
			old:     `		query.Set("pageToken", page.NextPageToken)`,
			new:     `		return nil`,
			pkg:     inGS, run: "^TestPages$",
		},
		{
			promise: "pages without objects are not followed for ever",
			file:    read,
			old:     "barren < maxBarren; barren++",
			new:     "barren < maxBarren; barren += 0",
			pkg:     inGS, run: "^TestLists$", hangs: "20s",
		},
		{
			promise: "what is no list of Google's is not taken for an empty one",
			file:    read,
			old:     `if page.Kind != "storage#objects" {`,
			new:     `if false {`,
			pkg:     inGS, run: "^TestLists$",
		},
		{
			promise: "what was not asked for is not taken from a list",
			file:    read,
			old:     "if !found {",
			new:     "if !found && name == \"\" {",
			pkg:     inGS, run: "^TestLists$",
		},
		{
			promise: "until when a file is kept is said",
			file:    backend,
			old:     "case !o.RetentionExpirationTime.IsZero():",
			new:     "case o.RetentionExpirationTime.IsZero():",
			pkg:     inGS, run: "^TestRetained$",
		},
		{
			promise: "that there is a hold on a file is said",
			file:    backend,
			old:     "case o.TemporaryHold || o.EventBasedHold:",
			new:     "case o.TemporaryHold:",
			pkg:     inGS, run: "^TestRetained$",
		},
		{
			promise: "a retention is known by its words, too",
			file:    errs,
			old:     `strings.Contains(e.message, "cannot be deleted")`,
			new:     `strings.Contains(e.message, "cannot be removed")`,
			pkg:     inGS, run: "^TestRetained$",
		},
		{
			promise: "a part of a file is asked for, and its place compared",
			file:    read,
			old:     "off+int64(n)-1)",
			new:     "off+int64(n))",
			pkg:     inGS, run: "^TestWrongBytes$",
		},
		{
			promise: "an answer that is cut is not a file that ends",
			file:    request,
			old:     `fmt.Errorf("%w: %v", storage.ErrUnreachable, httpclient.WithoutURL(err))`,
			new:     `fmt.Errorf("%w: %w", storage.ErrUnreachable, httpclient.WithoutURL(err))`,
			pkg:     inGS, run: "^(TestNoAnswer|TestWrongBytes)$",
		},
		{
			promise: "a certificate that is not trusted is not tried again",
			file:    request,
			old:     "case httpclient.IsUnverified(err):",
			new:     "case false:",
			pkg:     inGS, run: "^TestCertificates$",
		},
		{
			promise: "slashes in a name do not stand in the address",
			file:    request,
			old:     "url.PathEscape(b.place.key(f.Path()))",
			new:     "b.place.key(f.Path())",
			pkg:     inGS, run: "^TestNames$",
		},
		{
			promise: "an answer without end is not read into memory",
			file:    request,
			old:     "io.LimitReader(resp.Body, maxAnswer)",
			new:     "resp.Body",
			pkg:     inGS, run: "^TestHugeAnswers$",
		},
		{
			promise: "a refusal of Google's without end is not read into memory",
			file:    errs,
			old:     "io.LimitReader(resp.Body, longest)",
			new:     "resp.Body",
			pkg:     inGS, run: "^TestHugeAnswers$",
		},
		{
			promise: "a token is not sent elsewhere",
			file:    backend,
			old:     "CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },",
			new:     "",
			pkg:     inGS, run: "^TestRefusals$",
		},
		{
			promise: "a limit of requests is not taken for a missing permission",
			file:    errs,
			old:     `case is("rateLimitExceeded", "userRateLimitExceeded"),`,
			new:     `case is("rateLimitExceeded"),`,
			pkg:     inGS, run: "^TestRefusals$",
		},
		{
			promise: "a policy that forbids is not taken for a file that exists",
			file:    errs,
			old:     ` && !is("orgPolicyConstraintFailed")`,
			new:     ``,
			pkg:     inGS, run: "^TestRefusals$",
		},
		{
			promise: "a server that asks to be left alone is",
			file:    errs,
			old:     "httpclient.Later(e.translate(), httpclient.RetryAfter(resp.Header))",
			new:     "httpclient.Later(e.translate(), 0*httpclient.RetryAfter(resp.Header))",
			pkg:     inGS, run: "^TestOtherRefusals$",
		},
		{
			promise: "Google's servers of tokens are not waited for without bound",
			file:    credentials,
			old:     "context.WithTimeoutCause(ctx, c.most, errLate)",
			new:     "context.WithTimeoutCause(ctx, 1000*c.most, errLate)",
			pkg:     inGS, run: "^TestMetadata$",
		},
		{
			promise: "one token is used until it expires",
			file:    credentials,
			old:     "	c.source = found.TokenSource\n	return c.source, nil",
			new:     "	return found.TokenSource, nil",
			pkg:     inGS, run: "^TestServiceAccount$",
		},
		{
			promise: "a server of tokens that is out of order is asked again",
			file:    credentials,
			old:     "status == http.StatusTooManyRequests || status >= 500",
			new:     "status == http.StatusTooManyRequests",
			pkg:     inGS, run: "^TestServiceAccount$",
		},
		{
			promise: "what is in a file of credentials is not told",
			file:    credentials,
			old:     "names, %s, is no file of credentials\", storage.ErrReadOnly, file)",
			new:     "names, %s, is no file of credentials: %v\", storage.ErrReadOnly, file, err)",
			pkg:     inGS, run: "^TestBadCredentials$",
		},
		{
			promise: "the options for Google's buckets are heeded",
			file:    "storage/location/gs.go",
			old:     `Endpoint: o.get("endpoint"), CACert: o.get("cacert")`,
			new:     `Endpoint: o.get("endpoint")`,
			pkg:     inLocation, run: "^TestGoogleBuckets$",
		},
		{
			promise: "a bucket that is made is never public",
			file:    backend,
			old:     `access.Uniform.Enabled, access.Public = true, "enforced"`,
			new:     `access.Uniform.Enabled, access.Public = true, "inherited"`,
			pkg:     inGS, run: "^TestBucket$",
		},
	}
}
