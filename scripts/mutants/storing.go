package main

// storing: what a server says, or does not come to say, is not taken for more than it is.
func storing() []mutant {
	const (
		save   = "storage/s3/save.go"
		read   = "storage/objects/objects.go"
		answer = "internal/httpclient/answers.go"
		errs   = "storage/s3/errors.go"
	)
	return []mutant{
		{
			promise: "nothing in a bucket is overwritten",
			file:    save,
			old:     "if conditional {\n\t\to.SetMatch",
			new:     "if conditional && b.opts.Idle < 0 {\n\t\to.SetMatch",
			pkg:     inS3, run: "^TestFake$",
		},
		{
			promise: "a config is looked for first, where the server passes over the condition",
			file:    save,
			old:     "f.Kind == storage.Config || b.unconditional.Load()",
			new:     "b.unconditional.Load()",
			pkg:     inS3, run: "^TestConfigIsLookedForFirst$",
		},
		{
			promise: "a server that does not know the condition can be used",
			file:    save,
			old:     "if conditional && isNotImplemented(err) {",
			new:     "if conditional && isNotImplemented(nil) {",
			pkg:     inS3, run: "^TestUnconditional$",
		},
		{
			promise: "a file that is there is not overwritten where the server does not know the condition",
			file:    save,
			old:     "\tif err := b.absent(ctx, f); err != nil {\n\t\treturn err\n\t}\n\treturn b.settle(",
			new:     "\treturn b.settle(",
			pkg:     inS3, run: "^TestUnconditional$",
		},
		{
			promise: "a file whose server did not come to say that it was stored is stored",
			file:    save,
			old:     "default: // it is there, and it is this one\n\t\treturn nil",
			new:     "default: // it is there, and it is this one\n\t\treturn err",
			pkg:     inS3, run: "^TestLostReply$",
		},
		{
			promise: "another's file is not taken for one's own when a connection breaks",
			file:    save,
			old:     "case status == http.StatusConflict, !bytes.Equal(stored, data):",
			new:     "case status == http.StatusConflict, status != 0 && !bytes.Equal(stored, data):",
			pkg:     inS3, run: "^TestRefusedAndReset$",
		},
		{
			promise: "a server that ignores ranges is found out",
			file:    read,
			old:     "if contentRange == \"\" {",
			new:     "if contentRange == \"\" {\n\t\treturn off + length, nil\n\t}\n\tif contentRange == \"\" {",
			pkg:     inS3, run: "^TestOddRanges$",
		},
		{
			promise: "an answer that begins elsewhere than asked for is found out",
			file:    read,
			old:     "if first != off || last < first",
			new:     "if last < first",
			pkg:     inS3, run: "^TestOddRanges$",
		},
		{
			promise: "a connection that breaks is no file that ends",
			file:    answer,
			old:     "if errors.Is(err, io.ErrUnexpectedEOF) {",
			new:     "if errors.Is(err, io.ErrNoProgress) {",
			pkg:     inS3, run: "^(TestOddRanges|TestListBroken)$",
		},
		{
			promise: "a page of a list that comes twice is found out",
			file:    read,
			old:     "case l.seen[id]:",
			new:     "case l.seen[id] && size < 0:",
			pkg:     inS3, run: "^TestListBroken/the_page_before_once_more$",
		},
		{
			promise: "what is no list is not taken for an empty one",
			file:    answer,
			old:     "if !bytes.Contains(begin, []byte(\"<\"+l.Root)) {",
			new:     "if bytes.Contains(begin, []byte(\"<NoListAtAll\"+l.Root)) {",
			pkg:     inS3, run: "^TestListBroken$",
		},
		{
			promise: "pages without keys are not followed for ever",
			file:    answer,
			old:     "if p.barren.Add(1) > maxBarren {",
			new:     "if p.barren.Add(1) > 100*maxBarren {",
			pkg:     inS3, run: "^TestListWithoutEnd$",
		},
		{
			promise: "a page without end is not read into memory",
			file:    answer,
			old:     "io.LimitReader(resp.Body, maxAnswer)",
			new:     "resp.Body",
			pkg:     inS3, run: "^TestHugePage$",
		},
		{
			promise: "a refusal without end is not read into memory",
			file:    answer,
			old:     "!page && !l.Small(r) && resp.StatusCode < 300",
			new:     "!page && !l.Small(r)",
			pkg:     inAzure, run: "^TestHugeRefusal$",
		},
		{
			promise: "memory is taken for bytes that come",
			file:    read,
			old:     "const start = 32 << 20",
			new:     "const start = 1 << 30",
			pkg:     inS3, run: "^TestHugePromise$",
		},
		{
			promise: "a server that says nothing is given up",
			file:    "internal/httpclient/httpclient.go",
			old:     "return c.SetDeadline(time.Now().Add(c.idle))",
			new:     "return c.SetDeadline(time.Now().Add(100 * c.idle))",
			pkg:     inS3, run: "^TestSilence$",
		},
		{
			promise: "an option that is wrong is not tried again",
			file:    "storage/location/location.go",
			old:     "errors.Is(err, storage.ErrOption):",
			new:     "errors.Is(err, storage.ErrExist):",
			pkg:     inLocation, run: "^TestOptions$",
		},
		{
			promise: "a file of certificates that is none is a wrong option, where the bucket is S3's",
			file:    "storage/s3/s3.go",
			old:     `fmt.Errorf("%w: s3.cacert: %w", storage.ErrOption, err)`,
			new:     `fmt.Errorf("s3.cacert: %w", err)`,
			pkg:     inLocation, run: "^TestOptions$",
		},
		{
			promise: "a file of certificates that is none is a wrong option, where the container is Azure's",
			file:    "storage/azure/azure.go",
			old:     `fmt.Errorf("%w: azure.cacert: %w", storage.ErrOption, err)`,
			new:     `fmt.Errorf("azure.cacert: %w", err)`,
			pkg:     inLocation, run: "^TestOptions$",
		},
		{
			promise: "credentials that have expired are fetched anew",
			file:    "storage/s3/options.go",
			old:     "b.creds.Expire()",
			new:     "_ = b.creds.Expire",
			pkg:     inS3, run: "^TestExpiredCredentials$",
		},
		{
			promise: "of many requests that are refused at once for credentials, each can be tried again",
			file:    "storage/s3/options.go",
			old:     "b.renewal.at = time.Now()",
			new:     "b.renewal.at = time.Time{}",
			pkg:     inS3, run: "^TestExpiredCredentials$",
		},
		{
			promise: "a refusal without words is asked for some",
			file:    "storage/s3/s3.go",
			old:     "return storage.Info{}, b.explained(ctx, f, err)",
			new:     "return storage.Info{}, err",
			pkg:     inS3, run: "^TestRefusals$",
		},
		{
			promise: "an error about the network holds no address with a query",
			file:    errs,
			old:     "err = around.Err\n",
			new:     "err = around\n",
			pkg:     inS3, run: "^TestSilence$",
		},
		{
			promise: "nothing in a container is overwritten",
			file:    "storage/azure/azure.go",
			old:     "IfNoneMatch: to.Ptr(azcore.ETagAny)",
			new:     "IfMatch: to.Ptr(azcore.ETagAny)",
			pkg:     inAzure, run: "^TestLostReply$",
		},
		{
			promise: "an error about Azure's network holds no signature",
			file:    "storage/azure/errors.go",
			old:     "return fmt.Errorf(\"%w: %w\", storage.ErrUnreachable, around.Err)",
			new:     "return fmt.Errorf(\"%w: %w\", storage.ErrUnreachable, around)",
			pkg:     inAzure, run: "^TestNoAnswer$",
		},
		{
			promise: "one attempt is made, and others decide about more",
			file:    "storage/azure/options.go",
			old:     "policy.RetryOptions{MaxRetries: -1}",
			new:     "policy.RetryOptions{MaxRetries: 1, RetryDelay: 1}",
			pkg:     inAzure, run: "^TestRefusals$",
		},
		{
			promise: "what is retained is said to be",
			file:    "storage/s3/s3.go",
			old:     "if retained := b.retained(ctx, f, err); retained != nil {",
			new:     "if retained := b.retained(ctx, f, err); retained != nil && false {",
			pkg:     inS3, run: "^TestRetained$",
		},
		{
			promise: "a storage that cannot be reached has its own exit code",
			file:    "cmd/jetsam/command/exit.go",
			old:     "{storage.ErrUnreachable, ending{exitStorage,",
			new:     "{storage.ErrUnreachable, ending{exitFailed,",
			pkg:     inCommand, run: "^TestExitCodes$",
		},
	}
}
