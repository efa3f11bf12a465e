package schema

import (
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/parser"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestAgreement [F1]: shapes and CUE itself give the same verdict on every
// file of the corpus, so that the CUE files stay the truth and the stock cue
// command accepts what swage does.
func TestAgreement(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	ctx := cuecontext.New()
	definition := ctx.BuildInstance(schemaInstance(t))
	if err := definition.Err(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("../testdata/errors/*.txtar")
	examples, _ := filepath.Glob("../examples/*/*/*.*")
	nested, _ := filepath.Glob("../examples/*/projects/*/*.*")
	right, wrong := 0, 0
	judge := func(t *testing.T, name string, src []byte) {
		v, expression, problems := parse(name, src)
		def := definitionOf(name)
		if v == nil || expression || len(problems) > 0 || def == "" {
			return
		}
		c := &checker{shapes: all}
		ours := c.walk(spot{v.Pos, "", v}, all[def], "", false)
		err := definition.LookupPath(cue.ParsePath(def)).Unify(ctx.Encode(v.plain())).Validate(cue.Concrete(true))
		if ours != (err == nil) {
			t.Errorf("%s: we say %v, CUE says %v", name, c.problems, err)
		}
		if ours {
			right++
		} else {
			wrong++
		}
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			judge(t, f.Name, f.Data)
		}
	}
	for _, file := range append(examples, nested...) {
		a := strings.SplitN(filepath.ToSlash(file), "/", 4)
		judge(t, a[3], readFile(t, file))
	}
	if right < 20 || wrong < 50 {
		t.Errorf("only %d right and %d wrong files were judged", right, wrong)
	}
}

func definitionOf(name string) string {
	switch dir, _, _ := strings.Cut(name, "/"); {
	case !readable(name):
		return ""
	case stem(name) == "swage" && dir == name:
		return "#Swage"
	case dir == "servers":
		return "#Server"
	case dir == "projects":
		return "#File"
	}
	return ""
}

func schemaInstance(t *testing.T) *build.Instance {
	t.Helper()
	inst := build.NewContext().NewInstance("", nil)
	names, err := definitions.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range names {
		src, err := definitions.ReadFile(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		var f *ast.File
		if f, err = parser.ParseFile(d.Name(), src); err == nil {
			err = inst.AddSyntax(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return inst
}
