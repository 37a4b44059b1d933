package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "anodenet/"

// mayImport lists what each package may import within the module: what it is built on, and
// nothing above it. A "/..." covers the packages below.
var mayImport = map[string][]string{
	"anode":            {"anode/private", "anode/whole"},
	"anode/private":    {},
	"anode/whole":      {},
	"anode/wire":       {"anode"},
	"anode/seal":       {"anode", "anode/wire", "anode/seal/gcm"},
	"anode/seal/...":   {},
	"anode/zone":       {"anode", "anode/private", "anode/whole", "anode/wire"},
	"anode/stream":     {"anode", "anode/wire"},
	"anode/invite":     {"anode", "anode/wire"},
	"overlay/people":   {"anode", "anode/invite", "anode/wire", "overlay/book", "overlay/mono"},
	"overlay/mono":     {},
	"overlay/link":     {"anode/wire"},
	"overlay/alias":    {"anode"},
	"overlay/portmap":  {},
	"overlay/vnet":     {"overlay/link"},
	"overlay/path":     {"anode", "anode/wire", "overlay/link", "overlay/mono"},
	"overlay/lookup":   {"anode", "anode/wire", "overlay/mono"},
	"overlay/book":     {"anode", "anode/wire"},
	"overlay/store":    {"anode", "anode/private", "anode/whole", "anode/wire", "overlay/book"},
	"overlay/peer":     {"anode", "anode/wire", "anode/seal", "overlay/path", "overlay/book", "overlay/link", "overlay/mono"},
	"overlay":          {"anode", "anode/wire", "anode/seal", "anode/stream", "anode/zone", "overlay/path", "overlay/lookup", "overlay/book", "overlay/peer", "overlay/link", "overlay/mono", "overlay/alias"},
	"tun":              {"anode", "anode/wire", "overlay/link", "overlay/alias"},
	"tun/gateway":      {"anode", "anode/wire"},
	"info2":            {},
	"scripts":          {},
	"scripts/agent":    {},
	"scripts/streams":  {"anode", "anode/wire", "overlay", "overlay/book", "overlay/link"},
	"platform":         {},
	"cmd/anode":        {"anode", "anode/...", "overlay", "overlay/...", "tun", "tun/gateway", "info2", "platform", "cmd/..."},
	"cmd/internal/...": {"anode", "anode/...", "overlay", "overlay/...", "tun", "tun/gateway", "info2", "platform", "cmd/internal/..."},
}

// mayUse is which modules of other people's a package may import; the standard library
// and golang.org/x are free to all.
var mayUse = map[string][]string{
	"anode/seal":      {"github.com/flynn/noise"},
	"anode/seal/...":  {"github.com/mmcloughlin/avo"}, // the generator of the AES-GCM kernel
	"overlay/link":    {"github.com/icholy/digest"},
	"overlay/portmap": {"github.com/huin/goupnp"},
	"overlay/store":   {"go.etcd.io/bbolt"},
	"tun":             {"golang.zx2c4.com/wireguard/tun"},
	"tun/gateway":     {"gvisor.dev/gvisor/pkg"},
	"platform":        {"github.com/vishvananda/netlink", "github.com/godbus/dbus/v5"},
	"scripts/agent":   {"github.com/godbus/dbus/v5"},
	"scripts/streams": {"gvisor.dev/gvisor/pkg", "github.com/quic-go/quic-go", "tailscale.com"}, // the latter two in modules of their own
	"cmd/...":         {""},
}

// rule gives the entry for a package, by its name or the folder above it.
func rule(table map[string][]string, pkg string) ([]string, bool) {
	for p := pkg; ; {
		if r, ok := table[p]; ok {
			return r, true
		}
		i := strings.LastIndex(strings.TrimSuffix(p, "/..."), "/")
		if i < 0 {
			return nil, false
		}
		p = p[:i] + "/..."
	}
}

func allowed(list []string, path string) bool {
	return slices.ContainsFunc(list, func(a string) bool {
		dir, below := strings.CutSuffix(a, "/...")
		return path == a || below && strings.HasPrefix(path, dir+"/")
	})
}

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		inside, known := rule(mayImport, pkg)
		if !known {
			t.Errorf("%s is in no package of the table", path)
		}
		outside, _ := rule(mayUse, pkg)
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if own, ok := strings.CutPrefix(name, module); ok {
				if !allowed(inside, own) {
					t.Errorf("%s imports %s, which is not below it", path, name)
				}
				continue
			}
			host, _, _ := strings.Cut(name, "/")
			if strings.Contains(host, ".") && host != "golang.org" && !slices.ContainsFunc(outside, func(a string) bool { return strings.HasPrefix(name, a) }) {
				t.Errorf("%s imports %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}
