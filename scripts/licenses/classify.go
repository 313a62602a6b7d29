package main

import (
	"errors"
	"slices"
	"strings"
)

// mark is a phrase that only one licence has.
type mark struct{ name, phrase string }

// accepted are the licences that may go into the program, by a phrase of their text in lower case with single spaces.
func accepted() []mark {
	return []mark{
		{"Apache-2.0", "apache license version 2.0, january 2004"},
		{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software"},
		{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"},
		{"ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted"},
		{"BSD", "redistribution and use in source and binary forms, with or without modification, are permitted provided that the following conditions are met"},
		{"MPL-2.0", "mozilla public license version 2.0"},
		{"MPL-2.0", "mozilla public license, version 2.0"},
	}
}

// refused are phrases of licences whose conditions the program could not keep. The Mozilla licence names the GNU ones without being one.
func refused() []mark {
	return []mark{
		{"a GNU licence", "gnu general public license version"},
		{"a GNU licence", "gnu affero general public license version"},
		{"a GNU licence", "gnu lesser general public license version"},
		{"BSD with the advertising clause", "all advertising materials mentioning features"},
		{"the Business Source License", "business source license"},
		{"the Server Side Public License", "server side public license"},
		{"a non-commercial licence", "noncommercial"},
	}
}

var errUnknown = errors.New("the licence is not one of Apache-2.0, MIT, ISC, BSD and MPL-2.0")

// classify returns the names of the licences in a licence file. A file may hold several.
func classify(text string) ([]string, error) {
	words := slices.DeleteFunc(strings.Fields(strings.ToLower(text)), isMargin)
	plain := strings.Join(words, " ")
	for _, m := range refused() {
		if strings.Contains(plain, m.phrase) {
			return nil, errors.New("it is under " + m.name)
		}
	}
	var names []string
	for _, m := range accepted() {
		if strings.Contains(plain, m.phrase) {
			names = append(names, m.name)
		}
	}
	if len(names) == 0 {
		return nil, errUnknown
	}
	return names, nil
}

// isMargin says whether a word is what quotations and comments begin their lines with.
func isMargin(word string) bool { return strings.Trim(word, ">/#*") == "" }
