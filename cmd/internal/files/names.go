package files

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName says that a name is not one that may be received.
var ErrName = errors.New("forbidden name")

// nameError is an ErrName about a name.
type nameError struct{ name, why string }

func (e *nameError) Error() string { return fmt.Sprintf("%v: %s: %s", ErrName, e.name, e.why) }
func (e *nameError) Unwrap() error { return ErrName }

func badName(name, why string) error { return &nameError{Shown(name), why} }

// journalPrefix begins the names of journals, which nobody may send.
const journalPrefix = ".anode-recv-"

// checkPath reports why a path may not be received: it has to be relative, with slashes, in
// its shortest form and without tricks. windows adds what that system forbids.
func checkPath(name string, windows bool) error {
	switch {
	case name == "":
		return badName(name, "it is empty")
	case len(name) > maxPath:
		return badName(name[:40]+"…", "it is too long")
	case strings.Count(name, "/") >= maxDepth:
		return badName(name[:40]+"…", "it is too deep")
	case !utf8.ValidString(name):
		return badName(name, "it is not UTF-8")
	case strings.HasPrefix(name, "/"):
		return badName(name, "it is absolute")
	case strings.HasPrefix(strings.ToLower(visible(name)), journalPrefix):
		return badName(name, "anode uses such names itself")
	}
	for part := range strings.SplitSeq(name, "/") {
		if why := partProblem(part, windows); why != "" {
			return badName(name, why)
		}
	}
	return nil
}

// visible returns a name without what does not show, which some file systems ignore.
func visible(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, name)
}

// partProblem says what is wrong with one name of a path.
func partProblem(part string, windows bool) string {
	switch {
	case part == "":
		return "a part of it is empty"
	case part == "." || part == "..":
		return "it leads elsewhere"
	case len(part) > maxName:
		return "a part of it is too long"
	case strings.ContainsFunc(part, unicode.IsControl):
		return "it has control characters"
	case windows:
		return windowsProblem(part)
	}
	return ""
}

// windowsProblem says why Windows would take a name for something else.
func windowsProblem(part string) string {
	if strings.ContainsAny(part, `\:*?"<>|`) {
		return `Windows allows none of \ : * ? " < > |`
	}
	if strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
		return "Windows drops a dot or blank at the end"
	}
	stem, _, _ := strings.Cut(part, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return "Windows has a device of that name"
	}
	for _, device := range []string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(stem, device); ok && utf8.RuneCountInString(digit) == 1 && strings.ContainsAny(digit, "0123456789¹²³") {
			return "Windows has a device of that name"
		}
	}
	return ""
}

// checkTarget reports why a symbolic link may not be received: its target has to be relative
// and to stay within what the link's first directory holds. It may go up only at its
// beginning, where the directories are real ones: after another link ".." leads anywhere.
func checkTarget(link, target string, windows bool) error {
	up, rest := 0, target+"/"
	for strings.HasPrefix(rest, "../") {
		up, rest = up+1, rest[len("../"):]
	}
	rest = strings.TrimSuffix(rest, "/")
	depth := strings.Count(link, "/") // of the directory that holds the link
	switch {
	case depth == 0:
		return badName(link, "it is a link outside a directory")
	case up >= depth:
		return badName(link, "it is a link that leads out")
	case rest == "" && up > 0:
		return nil
	}
	if err := checkPath(rest, windows); err != nil {
		return badName(link, "it is a link that leads elsewhere")
	}
	return nil
}

// Shown returns a name, or a text of the other side's, as it may be printed: what does not
// show, or changes the order of what does, is replaced. None can begin an advice within an
// error.
func Shown(name string) string {
	const joiner = '\u200d' // within emoji
	name = strings.ReplaceAll(name, "; try:", "; try")
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) || r == joiner {
			return r
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(name, string(unicode.ReplacementChar)))
}

// numbered returns the k-th name to try for something: "report.pdf", "report (2).pdf", and so
// on, with a suffix. It is never longer than a name may be.
func numbered(name string, k int, suffix string) string {
	dir, base := path.Split(name)
	stem, extension := base, ""
	if i := strings.LastIndexByte(base, '.'); i > 0 && len(base)-i <= 16 {
		stem, extension = base[:i], base[i:]
		if strings.HasSuffix(stem, ".tar") && len(stem) > len(".tar") {
			stem, extension = strings.TrimSuffix(stem, ".tar"), ".tar"+extension
		}
	}
	if k > 1 {
		extension = fmt.Sprintf(" (%d)%s", k, extension)
	}
	extension += suffix
	for len(stem)+len(extension) > maxName {
		_, n := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-n]
	}
	return dir + stem + extension
}
