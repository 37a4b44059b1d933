package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"anodenet/cmd/internal/names"
)

// flagError is the error of a flag, in words: the library's has those of the functions
// that it calls.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	var unknown *pflag.NotExistError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &invalid):
		return usage(cmd, "--%s: want %s, not %q", invalid.GetFlag().Name, wanted(invalid.GetFlag()), invalid.GetValue())
	case errors.As(err, &missing):
		return usage(cmd, "--%s: missing value: want %s", missing.GetFlag().Name, wanted(missing.GetFlag()))
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &syntax):
		return usage(cmd, "%q is not a flag", syntax.GetSpecifiedFlag())
	}
	return usage(cmd, "%v", err)
}

// unknownFlag names the nearest flag.
func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	name := err.GetSpecifiedName()
	if err.GetSpecifiedShortnames() != "" {
		return usage(cmd, "unknown flag: -%s", name)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if near := names.Nearest(name, known); near != "" {
		return usage(cmd, "unknown flag: --%s; did you mean --%s?", name, near)
	}
	return usage(cmd, "unknown flag: --%s", name)
}

// wanted says what a flag takes.
func wanted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "uint16":
		return "a number from 0 to 65535"
	case "int":
		return "a whole number"
	case "float64":
		return "a number"
	case "duration":
		return "a time such as 2s or 500ms"
	case secondsType:
		return "seconds such as 2 or 0.5, or a time such as 500ms"
	case spanType:
		return "a time such as 30m, 24h or 7d"
	}
	value, _ := pflag.UnquoteUsage(f)
	if value != strings.ToLower(value) { // KEY=VALUE is a form, file is a word
		return value
	}
	return "a " + value
}

// secondsType is the type of a flag of secondsVar.
const secondsType = "seconds"

// seconds is a time that people give in seconds, or with a unit.
type seconds time.Duration

// secondsVar adds a flag for a time: "2", "0.5", "2s" or "500ms".
func secondsVar(flags *pflag.FlagSet, p *time.Duration, name, short string, value time.Duration, usage string) {
	*p = value
	flags.VarP((*seconds)(p), name, short, usage)
}

func (s *seconds) Type() string { return secondsType }

// String returns seconds without a unit, as the help shows them.
func (s *seconds) String() string {
	return strconv.FormatFloat(time.Duration(*s).Seconds(), 'g', -1, 64)
}

var errSeconds = errors.New("not a time")

// Set takes a time that is not negative.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseFloat(text, 64); nerr == nil {
		if !(n >= 0 && n < math.MaxInt64/float64(time.Second)) {
			return fmt.Errorf("%w: %q", errSeconds, text)
		}
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%w: %q", errSeconds, text)
	}
	*s = seconds(d)
	return nil
}
