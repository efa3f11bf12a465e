package schema_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"swage/schema"
)

const swageFile = "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n"

// fleetOf is a small fleet with one more file.
func fleetOf(name, src string) fstest.MapFS {
	return fstest.MapFS{
		"swage.cue":       {Data: []byte(swageFile)},
		"servers/lab.cue": {},
		name:              {Data: []byte(src)},
	}
}

// TestHostile [F9]: what would take all memory, all time or all stack is
// refused within the bounds, and the error says which file and which limit.
func TestHostile(t *testing.T) {
	double := func(n int) string {
		var b strings.Builder
		b.WriteString("let x0 = [1, 1]\n")
		for i := range n {
			fmt.Fprintf(&b, "let x%d = [for a in x%d for b in [1, 2] {a + b}]\n", i+1, i)
		}
		fmt.Fprintf(&b, "containers: app: comment: \"\\(len(x%d))\"\n", n)
		return b.String()
	}
	for _, c := range []struct{ name, file, src, want string }{
		{"nesting", "app.cue", "containers: " + strings.Repeat("{a: ", 10000) + strings.Repeat("}", 10000), "nests deeper than 100 levels"},
		{"nesting without brackets", "app.cue", strings.Repeat("a: ", 10000) + "1", "nests deeper than 100 levels"},
		{"nesting in lists", "app.cue", "a: " + strings.Repeat("[", 10000) + strings.Repeat("]", 10000), "nests deeper than 100 levels"},
		{"nesting in texts", "app.cue", "a: " + strings.Repeat(`"\(`, 10000) + "1" + strings.Repeat(`)"`, 10000), "nests deeper than 100 levels"},
		{"chain", "app.cue", "a: 1" + strings.Repeat("+1", 100000), "nests deeper than 100 levels"},
		{"nesting in YAML", "app.yaml", "a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nests deeper than 100 levels"},
		{"nesting past YAML's own bound", "app.yaml", "a: " + strings.Repeat("[", 50000), "exceeded max depth"},
		{"nesting in JSON", "app.json", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), "nests deeper than 100 levels"},
		{"file size", "app.cue", "// " + strings.Repeat("x", 1<<20), "has 1048579 bytes; a file may have 1048576"},
		{"comprehension that explodes", "app.cue", double(40), "evaluate"},
		{"text that doubles", "app.cue", textDoubling(40), "evaluate"},
		{"evaluation without end", "app.cue", counting(9), "is not evaluated within 1s"},
		{"more values than one file may come to", "app.cue", "import \"list\"\nlet row = list.Repeat([\"abc\"], 450)\ncontainers: app: depends_on: [for _ in row {row}]\n", "comes to more than 200000 values"},
		{"nesting that only shows when evaluated", "app.cue", nested(120), "nests deeper than 100 levels once it is evaluated"},
		{"number without end", "app.cue", "containers: app: resources: cpu: 1e999999999", "out of all bounds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := schema.Loader{Limits: schema.Limits{EvaluationMemory: 128 << 20}}
			switch {
			case strings.Contains(c.want, "within"):
				l.Limits = schema.Limits{EvaluationTime: time.Second}
			case strings.Contains(c.want, "values"): // which take some memory
				l.Limits = schema.Limits{EvaluationTime: time.Minute}
			}
			start := time.Now()
			f, err := l.Load(t.Context(), fleetOf("projects/web/"+c.file, c.src))
			if f != nil || err == nil || !schema.IsProblems(err) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "projects/web/"+c.file) {
				t.Fatalf("a fleet: %t, the error: %.300v\nwant %s", f != nil, err, c.want)
			}
			if d := time.Since(start); d > 30*time.Second { // with the race detector, too
				t.Errorf("it took %s", d)
			}
		})
	}
}

// nested is n structs in each other, written one beside the other.
func nested(n int) string {
	var b strings.Builder
	b.WriteString("let x0 = \"x\"\n")
	for i := range n {
		fmt.Fprintf(&b, "let x%d = {a: x%d}\n", i+1, i)
	}
	fmt.Fprintf(&b, "containers: app: x%d\n", n)
	return b.String()
}

func textDoubling(n int) string {
	var b strings.Builder
	b.WriteString("let x0 = \"xxxxxxxxxxxxxxxx\"\n")
	for i := range n {
		fmt.Fprintf(&b, "let x%d = x%d + x%d\n", i+1, i, i)
	}
	fmt.Fprintf(&b, "containers: app: comment: x%d\n", n)
	return b.String()
}

// counting asks for 10^n additions of which little is kept.
func counting(n int) string {
	var b strings.Builder
	b.WriteString("import \"list\"\ncontainers: app: comment: \"\\(list.Sum([")
	for i := range n {
		fmt.Fprintf(&b, "for i%d in list.Range(0, 10, 1) if list.Max([", i)
		b.WriteString("i")
		fmt.Fprintf(&b, "%d, 0]) >= 0 ", i)
	}
	b.WriteString("if i0 < 0 {1}]))\"\n")
	return b.String()
}

// TestTreeLimits [F9]: a tree past its bounds is refused.
func TestTreeLimits(t *testing.T) {
	tree := fleetOf("projects/web/app.cue", "containers: app: {}")
	for i := range 30 {
		tree[fmt.Sprintf("projects/web/%d.cue", i)] = &fstest.MapFile{Data: []byte(strings.Repeat("//\n", 100))}
	}
	for _, c := range []struct {
		limits schema.Limits
		want   string
	}{
		{schema.Limits{Files: 20}, "the repository has more than 20 files"},
		{schema.Limits{TreeBytes: 2000}, "the repository has more than 2000 bytes"},
		{schema.Limits{FileBytes: 200}, "has 300 bytes; a file may have 200"},
	} {
		l := schema.Loader{Limits: c.limits}
		if f, err := l.Load(t.Context(), tree); f != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.limits, err)
		}
	}
	deep := fleetOf("projects/web/"+strings.Repeat("a/", 120)+"app.cue", "")
	if _, err := schema.Load(t.Context(), deep); err == nil || !strings.Contains(err.Error(), "folders nest deeper than 100 levels") {
		t.Errorf("deep folders: %v", err)
	}
}

// TestLinks [F9]: what is not a plain file is refused wherever it could hide
// a part of the fleet.
func TestLinks(t *testing.T) {
	for _, name := range []string{"projects", "projects/web", "projects/web/app.cue", "projects/web/part", "servers/two.cue", "lib", "swage.cue"} {
		for _, mode := range []fs.FileMode{fs.ModeSymlink, fs.ModeIrregular, fs.ModeNamedPipe} {
			tree := fstest.MapFS{"swage.cue": {Data: []byte(swageFile)}, "servers/lab.cue": {}}
			tree[name] = &fstest.MapFile{Data: []byte("/etc"), Mode: mode}
			_, err := schema.Load(t.Context(), tree)
			if err == nil || !strings.Contains(err.Error(), name+": is no plain file") {
				t.Errorf("%s as %s: %v", name, mode, err)
			}
		}
	}
	tree := fleetOf("README.md", "")
	tree["README.md"].Mode = fs.ModeSymlink
	if _, err := schema.Load(t.Context(), tree); err != nil {
		t.Errorf("a link beside the layout: %v", err)
	}
}

// TestQuadratic [F9]: much of one thing costs no more than in proportion.
func TestQuadratic(t *testing.T) {
	id := func(i int) string { return fmt.Sprintf("%024x", i) }
	list := func(n int, item func(int) string) string {
		out := make([]string, n)
		for i := range out {
			out[i] = item(i)
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	ids := list(30000, func(i int) string { return `"` + id(i) + `"` })
	var containers, groups, cells strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&containers, "c%06d: {permissions: inherit: true}\n", i)
	}
	for i := range 8000 {
		fmt.Fprintf(&groups, "g%d: {type: \"ip\", range: \"10.0.0.1\"}\n", i)
		fmt.Fprintf(&cells, "g%d: http: false\n", i)
	}
	for name, tree := range map[string]fstest.MapFS{
		"realms": {
			"projects/web/a.cue": {Data: []byte("project: realm_ids: " + ids)},
			"projects/web/b.cue": {Data: []byte("containers: app: realm_ids: " + ids)},
		},
		"ports": {"projects/web/a.cue": {Data: []byte("containers: app: publish: " +
			list(20000, func(i int) string { return fmt.Sprintf("{listen: \"10.0.%d.%d:%d\", port: 1}", i/250, i%250, 1+i) }))}},
		"missing containers": {"projects/web/a.cue": {Data: []byte("containers: {" + containers.String() + "app: depends_on: " +
			list(10000, func(i int) string { return fmt.Sprintf(`"d%06d"`, i) }) + "}")}},
		"inheritance": {
			"projects/web/a.cue": {Data: []byte("permissions: groups: {" + groups.String() + "}")},
			"projects/web/b.cue": {Data: []byte("containers: {" + containers.String() + "}")},
		},
		"cells":      {"projects/web/a.cue": {Data: []byte("permissions: {default: \"allow\", groups: {" + groups.String() + "}, permissions: {" + cells.String() + "}}")}},
		"duplicates": {"projects/web/a.yaml": {Data: []byte(strings.Repeat("a: 1\n", 200000))}},
	} {
		t.Run(name, func(t *testing.T) {
			tree["swage.cue"] = &fstest.MapFile{Data: []byte(swageFile)}
			tree["servers/lab.cue"] = &fstest.MapFile{}
			start := time.Now()
			f, err := schema.Load(t.Context(), tree)
			if err != nil && (f != nil || !schema.IsProblems(err)) {
				t.Errorf("%.300v", err)
			}
			if d := time.Since(start); d > 30*time.Second { // with the race detector, too
				t.Errorf("it took %s", d)
			}
		})
	}
}
