package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// release is the version under development.
const release = "0.1.0"

// build is what a program knows about how it was made; what is not known is empty. It is
// the JSON of version.
type build struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
	Commit  string `json:"commit"` // the full hash
	Date    string `json:"date"`   // of the commit, RFC 3339
	Dirty   bool   `json:"dirty"`  // made of more than the commit
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		GroupID: groupOther,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if *asJSON {
			return a.json(thisBuild())
		}
		fmt.Fprintln(a.out, versionLine())
		return nil
	}
	return cmd
}

// versionLine is what version and --version print.
func versionLine() string {
	b := thisBuild()
	return fmt.Sprintf("anode %s %s %s/%s", b.Version, b.Go, b.OS, b.Arch)
}

// versionFlag adds --version. The library's own needs a template (see usageText).
func versionFlag(root *cobra.Command, out io.Writer) {
	asked := root.Flags().BoolP("version", "v", false, "print the version")
	others := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *asked {
			_, err := fmt.Fprintln(out, versionLine())
			return err
		}
		return others(cmd, args)
	}
}

// version is the release, and the commit that it was built from if that is known.
func version() string { return thisBuild().Version }

// thisBuild describes this program by what the linker was told, or else by what the go
// command noted.
func thisBuild() build {
	described := buildVersion
	b := build{Commit: buildCommit, Date: buildDate}
	if info, ok := debug.ReadBuildInfo(); ok && b.Commit == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				b.Date = s.Value
			case "vcs.modified":
				b.Dirty = s.Value == "true"
			}
		}
	}
	return b.named(described)
}

// named completes a build by what "git describe" said of its commit, which is empty if
// nobody asked. A version that is tagged has the tag's name; others have the release and
// the commit.
func (b build) named(described string) build {
	described, dirty := strings.CutSuffix(described, "-dirty")
	b.Dirty = b.Dirty || dirty
	b.Schema, b.Go, b.OS, b.Arch = schema, runtime.Version(), runtime.GOOS, runtime.GOARCH
	b.Version = release
	if tag, ok := strings.CutPrefix(described, "v"); ok && tag != "" && tag[0] >= '0' && tag[0] <= '9' {
		b.Version = tag
	} else if len(b.Commit) >= 12 {
		b.Version += "+" + b.Commit[:12]
	}
	if b.Dirty {
		b.Version += ".modified"
	}
	return b
}
