package info2

import (
	"testing"
)

// TestSecrets: what looks like one, and what does not.
func TestSecrets(t *testing.T) {
	for text, want := range map[string]bool{
		"-----BEGIN OPENSSH PRIVATE KEY-----":                            true,
		"AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ":               true,
		"my password is hunter2":                                         true,
		"Passwort: geheim":                                               true,
		"pwd=abc":                                                        true,
		"alice:x:1000:1000::/home/alice:/bin/sh":                         true,
		"alice:$6$saltsalt$abcdefgh:19000:0:99999:7:::":                  true,
		"Set-Cookie: a=b":                                                true,
		"JSESSIONID=8A7F; PHPSESSID=1":                                   true,
		"ghp_abcdefghijklmnopqrstuvwxyz0123456789":                       true,
		"use AKIAIOSFODNN7EXAMPLE":                                       true,
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123":           true,
		"Authorization: Basic QWxhZGRpbjo=":                              true,
		"card 4111 1111 1111 1111 ok?":                                   true,
		"5500-0000-0000-0004":                                            true,
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f0":   true,
		"https://me:secret@example.org/":                                 true,
		"hello everybody":                                                false,
		"I forgot my password":                                           false,
		"what is a private key?":                                         false,
		"call 4111 1111 1111 1112":                                       false,
		"it is 2026-11-21 22:47:59 here, room 1234":                      false,
		"see https://example.org/a/9f86d081884c7d659a2feaa0c55ad015a3bf": false,
		"Donaudampfschifffahrtsgesellschaftskapitaen":                    false,
		"my address is abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh": false,
		"fd00:1234:5678:9abc:def0:1234:5678:9abc":                                        false,
		"the pin of the grenade":                                                         false,
	} {
		if got := LooksSecret(text); (got != "") != want {
			t.Errorf("%q looks like %q", text, got)
		}
	}
}

// TestIdentifiers survive text.
func TestIdentifiers(t *testing.T) {
	for _, m := range []MID{midOf(0), midOf(42), {'a', 'b', 0xff, 0xfe, ' ', '!'}, {'h', 'e', 'l', 'l', 'o', '!'}} {
		text, _ := m.MarshalText()
		var back MID
		if err := back.UnmarshalText(text); err != nil || back != m {
			t.Errorf("%v: %q, %v", m, text, err)
		}
	}
	var m MID
	if m.UnmarshalText([]byte("1234567")) == nil || m.UnmarshalText([]byte("zzzzzzzzzzzz")) == nil {
		t.Error("took nonsense")
	}
	if Duplicates.String() != "duplicates" || HistoryLost.String() != "history_lost" || counterCount.String() != "unknown" {
		t.Error("counters and names do not match")
	}
	for i, name := range counterNames {
		if name == "" {
			t.Errorf("counter %d has no name", i)
		}
	}
}
