package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	mit = "Copyright (c) 2020 Somebody\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this software and associated documentation files"
	bsd = "Redistribution and use in source and binary forms, with or without\nmodification, are permitted provided that the following conditions are\nmet:\n\n   * Redistributions of source code"
	isc = "Permission to use, copy, modify, and distribute this software for any\npurpose with or without fee is hereby granted, provided that"
	mpl = "Mozilla Public License Version 2.0\n==================================\n\"Secondary License\" means either the GNU General Public License, Version 2.0, the GNU Lesser"
	gpl = "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n\n Everyone is permitted to copy"
)

func TestClassify(t *testing.T) {
	apache, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       []string // nil: refused
	}{
		{"our own", string(apache), []string{"Apache-2.0"}},
		{"MIT", mit, []string{"MIT"}},
		{"BSD", bsd, []string{"BSD"}},
		{"quoted BSD", "> " + strings.ReplaceAll(bsd, "\n", "\n> "), []string{"BSD"}},
		{"ISC", isc, []string{"ISC"}},
		{"MPL, which names the GNU licences", mpl, []string{"MPL-2.0"}},
		{"two in one file", bsd + "\n---\n" + mit, []string{"MIT", "BSD"}},
		{"GPL", gpl, nil},
		{"GPL beside MIT", mit + "\n\n" + gpl, nil},
		{"old BSD", bsd + "\n3. All advertising materials mentioning features or use of this software", nil},
		{"nothing known", "You may look at this.", nil},
		{"empty", "", nil},
	} {
		got, err := classify(c.text)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestNamesLicence(t *testing.T) {
	for name, want := range map[string]bool{
		"LICENSE": true, "LICENSE.md": true, "License.txt": true, "COPYING": true, "LICENCE": true,
		"licensed.go": false, "license.go": false, "README.md": false, "NOTICE": false,
	} {
		if got := namesLicence(name); got != want {
			t.Errorf("namesLicence(%q) = %v, want %v", name, got, want)
		}
	}
}
