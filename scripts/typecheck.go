//go:build ignore

// Command typecheck checks the types of all packages of this module, with their tests, for
// the system that GOOS and GOARCH name. It reads the standard library and other modules as
// source, without the bodies of their functions, so that nothing is compiled: a system
// takes seconds instead of a minute.
//
//	GOOS=openbsd go run scripts/typecheck.go
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pkg is what go list says about a package.
type pkg struct {
	Dir, ImportPath, Name, ForTest string
	Standard                       bool
	Module                         *struct{ Main bool }
	GoFiles, CgoFiles              []string
	ImportMap                      map[string]string
	Error                          *struct{ Err string }
}

func main() {
	ours, err := check()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s/%s: %d packages\n", build.Default.GOOS, build.Default.GOARCH, ours)
}

// check checks the packages in the order of go list, imported ones first.
func check() (ours int, err error) {
	list := exec.Command("go", "list", "-deps", "-test", "-json=Dir,ImportPath,Name,ForTest,Standard,Module,GoFiles,CgoFiles,ImportMap,Error", "./...")
	list.Stderr = os.Stderr
	out, err := list.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := list.Start(); err != nil {
		return 0, err
	}
	known := map[string]*types.Package{"unsafe": types.Unsafe}
	var errs []error
	for decoder := json.NewDecoder(out); ; {
		var p pkg
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return ours, err
		}
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") {
			continue
		}
		own := p.Module != nil && p.Module.Main
		if err := p.check(known, own); err != nil {
			errs = append(errs, err)
		}
		if own {
			ours++
		}
	}
	if ours == 0 {
		errs = append(errs, errors.New("no packages"))
	}
	return ours, errors.Join(append(errs, list.Wait())...)
}

// importer resolves the imports of one package.
type importer struct {
	p     *pkg
	known map[string]*types.Package
}

func (i importer) Import(path string) (*types.Package, error) {
	if mapped := i.p.ImportMap[path]; mapped != "" {
		path = mapped
	}
	if p := i.known[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s has not been read", path)
}

func (p *pkg) check(known map[string]*types.Package, own bool) error {
	if p.Error != nil {
		return errors.New(p.Error.Err)
	}
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range append(p.GoFiles, p.CgoFiles...) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
	}
	var errs []error
	config := types.Config{
		Importer: importer{p, known}, Sizes: types.SizesFor("gc", build.Default.GOARCH),
		IgnoreFuncBodies: !own, FakeImportC: true,
		Error: func(err error) { errs = append(errs, err) },
	}
	path, _, _ := strings.Cut(p.ImportPath, " ") // "x [x.test]" is x with its tests
	checked, _ := config.Check(path, files, parsed, nil)
	known[p.ImportPath] = checked
	if !own {
		return nil // errors in what we use show up where we use it
	}
	return errors.Join(errs...)
}
