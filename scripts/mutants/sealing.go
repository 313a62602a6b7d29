package main

// sealing: bytes that are not what was stored are never taken for it.
func sealing() []mutant {
	return []mutant{
		{
			promise: "nothing is opened whose authentication code is wrong",
			file:    "crypto/crypto.go",
			old:     "if !poly1305.Verify(&tag, ciphertext, &oneTime) {",
			new:     "if !poly1305.Verify(&tag, ciphertext, &oneTime) && false {",
			pkg:     inCrypto, run: "^TestEveryBitCounts$",
		},
		{
			promise: "nonces differ",
			file:    "crypto/crypto.go",
			old:     "rand.Read(nonce[:]) // never fails: it ends the program instead",
			new:     "nonce[0] = 1; _ = rand.Read",
			pkg:     inCrypto, run: "^TestNoncesDiffer$",
		},
		{
			promise: "a sealed blob is opened again before it is stored",
			file:    "repo/codec.go",
			old:     "if err := c.readBack(s, plain, plainLength); err != nil {",
			new:     "if err := c.readBack(s, plain, plainLength); false && err != nil {",
			pkg:     inRepo, run: "^TestErrantCompressorIsNoticed$",
		},
		{
			promise: "what a sealed blob opens to is compared",
			file:    "repo/codec.go",
			old:     "if !bytes.Equal(opened, plain) {",
			new:     "if false && !bytes.Equal(opened, plain) {",
			pkg:     inRepo, run: "^TestReadBackNoticesDamage$",
		},
		{
			promise: "a sealed file is opened again before it is stored",
			file:    "repo/files.go",
			old:     "if !bytes.Equal(again, text) {",
			new:     "if false && !bytes.Equal(again, text) {",
			pkg:     inRepo, run: "^TestErrantCompressorIsNoticed$",
		},
		{
			promise: "a file has the hash that is its name",
			file:    "repo/files.go",
			old:     "storage.Sum(data) == f.ID {",
			new:     "len(data) > 0 {",
			pkg:     inRepo, run: "^TestFilesAreTheirNames$",
		},
		{
			promise: "a blob has the hash that is its ID",
			file:    "repo/reader.go",
			old:     "if blob.Sum(out[len(dst):]) != h.ID {",
			new:     "if false && blob.Sum(out[len(dst):]) != h.ID {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "all copies of a blob are tried",
			file:    "repo/reader.go",
			old:     "for _, l := range locations {",
			new:     "for _, l := range locations[:1] {",
			pkg:     inRepo, run: "^TestLoadTriesAllCopies$",
		},
		{
			promise: "check --read-data compares the hashes of blobs",
			file:    "repo/checkpacks.go",
			old:     "if blob.Sum(out) != b.Handle.ID {",
			new:     "if false && blob.Sum(out) != b.Handle.ID {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "plain check compares pack headers with the index",
			file:    "repo/checkpacks.go",
			old: `	c.compareHeader(&v, info.File.ID, header)
	return v
}`,
			new: `	_ = header
	return v
}`,
			pkg: inRepo, run: "^(TestCheckOfCraftedIndex|TestCheckOfResealedPack)$",
		},
		{
			promise: "plain check compares the lengths of packs",
			file:    "repo/check.go",
			old:     "if !exists || size != pack.FileSize(blobs) {",
			new:     "if !exists {",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "check looks at every snapshot's trees",
			file:    "repo/checktrees.go",
			old:     "c.reportLosses(info.File, c.trees[s.Tree])",
			new:     "_ = c.trees[s.Tree]",
			pkg:     inRepo, run: "^TestCheckOfCraftedIndex$",
		},
		{
			promise: "a new password is tried before the old key goes",
			file:    "repo/keys.go",
			old:     "if err := r.tryKey(ctx, id, password); err != nil {",
			new:     "if err := r.tryKey(ctx, id, password); false && err != nil {",
			pkg:     inRepo, run: "^TestChangePasswordFails$",
		},
		{
			promise: "the key in use is not removed",
			file:    "repo/keys.go",
			old:     "if id == r.KeyID() {",
			new:     "if false && id == r.KeyID() {",
			pkg:     inRepo, run: "^TestKeys$",
		},
	}
}
