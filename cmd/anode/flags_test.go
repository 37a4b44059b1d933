package main

import (
	"errors"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestFlagErrors(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--count", "x"}, `--count: want a whole number, not "x"`},
		{[]string{"-c", "1.5"}, `--count: want a whole number, not "1.5"`},
		{[]string{"--count="}, `--count: want a whole number, not ""`},
		{[]string{"-c", "99999999999999999999"}, `--count: want a whole number, not "99999999999999999999"`},
		{[]string{"--port", "65536"}, `--port: want a number from 0 to 65535, not "65536"`},
		{[]string{"--ratio", "x"}, `--ratio: want a number, not "x"`},
		{[]string{"--often", "soon"}, `--often: want a time such as 2s or 500ms, not "soon"`},
		{[]string{"--wait", "2 s"}, `--wait: want seconds such as 2 or 0.5, or a time such as 500ms, not "2 s"`},
		{[]string{"--wait", "-1"}, `--wait: want seconds such as 2 or 0.5, or a time such as 500ms, not "-1"`},
		{[]string{"--yes=perhaps"}, `--yes: want true or false, not "perhaps"`},
		{[]string{"--file"}, "--file: missing value: want a file"},
		{[]string{"--set"}, "--set: missing value: want KEY=VALUE"},
		{[]string{"-c"}, "--count: missing value: want a whole number"},
		{[]string{"--cuont", "1"}, "unknown flag: --cuont; did you mean --count?"},
		{[]string{"--profil"}, "unknown flag: --profil"}, // hidden
		{[]string{"--nonsense"}, "unknown flag: --nonsense"},
		{[]string{"-x"}, "unknown flag: -x"},
		{[]string{"-yx"}, "unknown flag: -x"},
		{[]string{"--=x"}, `"--=x" is not a flag`},
	} {
		cmd := &cobra.Command{Use: "try", RunE: func(*cobra.Command, []string) error { return nil }, SilenceErrors: true, SilenceUsage: true}
		flags := cmd.Flags()
		flags.IntP("count", "c", 0, "")
		flags.Uint16("port", 0, "")
		flags.Float64("ratio", 0, "")
		flags.Duration("often", 0, "")
		flags.BoolP("yes", "y", false, "")
		flags.String("file", "", "the `file`")
		flags.String("profile", "", "")
		flags.StringArray("set", nil, "set a key, `KEY=VALUE`")
		flags.Lookup("profile").Hidden = true
		secondsVar(flags, new(time.Duration), "wait", "W", time.Second, "")
		cmd.SetFlagErrorFunc(flagError)
		cmd.SetArgs(test.args)
		err := cmd.Execute()
		var f *failure
		if !errors.As(err, &f) || f.exit != exitUsage || f.message != test.want || f.try != "try --help" {
			t.Errorf("%q: got %+v, want %s", test.args, err, test.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, ".25": 250 * time.Millisecond, "1e1": 10 * time.Second,
		"500ms": 500 * time.Millisecond, "2s": 2 * time.Second, "1m30s": 90 * time.Second,
		"": -1, "x": -1, "-1": -1, "-1s": -1, "NaN": -1, "Inf": -1, "1e300": -1, "9223372037": -1, "2 s": -1, "1h1": -1,
	} {
		d := time.Duration(-1)
		err := (*seconds)(&d).Set(text)
		if d != want || (err != nil) != (want < 0) {
			t.Errorf("%q: got %v, %v", text, d, err)
		}
	}
	d := 1500 * time.Millisecond
	if got := (*seconds)(&d).String(); got != "1.5" {
		t.Errorf("got %q", got)
	}
}
