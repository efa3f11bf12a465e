package main

import (
	"fmt"
	"strings"
)

// hostileTree is a repository that tries to take more than its limits. Files
// that are the same text are one blob in Git.
type hostileTree struct {
	name  string
	files func() map[string]string
	// want is part of the refusal, or several of which one is, between bars;
	// empty: it may be accepted.
	want string
	// quick: it runs in the quick suite, too, and push: as a push.
	quick, push bool
}

const (
	hostileSwage = "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n"
	mib          = 1 << 20
)

// treeOf is a fleet with more files.
func treeOf(add func(add func(name, text string))) map[string]string {
	files := map[string]string{"swage.cue": hostileSwage}
	add(func(name, text string) { files[name] = text })
	return files
}

// repeated is a fleet with the same text under n names.
func repeated(n int, name, text string) map[string]string {
	return treeOf(func(add func(name, text string)) {
		for i := range n {
			add(fmt.Sprintf(name, i), text)
		}
	})
}

// one is a fleet with one more file.
func one(name, text string) map[string]string { return repeated(1, name+"%.0d", text) }

// fill repeats a text to just below n bytes, between two others.
func fill(n int, before, text, after string) string {
	return before + strings.Repeat(text, (n-len(before)-len(after)-1)/len(text)) + after
}

// pushed are those that the quick suite pushes, too.
var pushed = map[string]bool{"one MiB under 3,000 names in lib": true, "nesting": true, "texts that are repeated": true}

// corpus is made as it is needed: some trees are large.
type corpus []hostileTree

func (c *corpus) add(quick bool, name, want string, files func() map[string]string) {
	*c = append(*c, hostileTree{name, files, want, quick, pushed[name]})
}

const app = "projects/web/app.cue"

// manyNames are trees of many names and few blobs.
func (c *corpus) manyNames() {
	add := c.add
	add(true, "one MiB under 3,000 names in lib", "more than 67108864 bytes", func() map[string]string {
		return repeated(3000, "lib/a/f%d.cue", fill(mib, "package a\n", "// x\n", ""))
	})
	add(false, "one MiB under 15,000 names in a project", "more than 67108864 bytes", func() map[string]string {
		return repeated(15000, "projects/web/f%d.cue", fill(mib, "", "// x\n", ""))
	})
	add(true, "60,000 names of nothing", "more than 20000 files and folders|too many files|the archive has more than", func() map[string]string {
		return repeated(60000, "projects/web/f%d.cue", "")
	})
	add(false, "a million names", "more than 20000 files and folders|too many files|the archive has more than", func() map[string]string {
		return repeated(1000000, "projects/web/f%d.cue", "")
	})
	add(false, "200,000 names that are not read", "more than 20000 files and folders|too many files|the archive has more than", func() map[string]string {
		return repeated(200000, "projects/web/f%d.txt", "")
	})
	add(false, "20,000 folders", "more than 20000 files and folders", func() map[string]string {
		return repeated(20000, "projects/p%d/a.cue", "")
	})
	add(false, "14,000 files with a container each", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i := range 14000 {
				add(fmt.Sprintf("projects/p%03d/f%d.cue", i/500, i), fmt.Sprintf("containers: con%d: {}\n", i))
			}
		})
	})
}

// plainData is what explodes while it is parsed and checked.
func (c *corpus) plainData() {
	add := c.add
	wrong := func(files, containers int) func() map[string]string {
		return func() map[string]string {
			return treeOf(func(add func(name, text string)) {
				for i := range files {
					var b strings.Builder
					b.WriteString(`{"containers":{`)
					for j := range containers {
						if j > 0 {
							b.WriteByte(',')
						}
						fmt.Fprintf(&b, `"con%d-%d":{"stat":1}`, i, j)
					}
					b.WriteString("}}")
					add(fmt.Sprintf("projects/web/f%d.json", i), b.String())
				}
			})
		}
	}
	add(true, "60 files with 30,000 wrong containers each", "comes to more than 64MiB", wrong(60, 30000))
	add(true, "9,000 files with one wrong field each", "more; mend these first", func() map[string]string {
		return repeated(9000, "projects/web/f%d.yaml", "containers: {app: {stat: 1}}\n")
	})
	add(true, "empty lists in JSON", "comes to more than 64MiB", func() map[string]string {
		return repeated(60, "projects/web/f%d.json", fill(mib, `{"a":[[]`, ",[]", "]}"))
	})
	add(false, "empty structs in CUE", "comes to more than 64MiB", func() map[string]string {
		return repeated(60, "projects/web/f%d.cue", fill(mib, "a: [{}", ",{}", "]\n"))
	})
	add(false, "empty lists in YAML", "comes to more than 64MiB", func() map[string]string {
		return repeated(60, "projects/web/f%d.yaml", fill(mib, "a: [[]", ",[]", "]\n"))
	})
	add(false, "lines of YAML", "comes to more than 64MiB", func() map[string]string {
		return repeated(60, "projects/web/f%d.yaml", fill(mib, "a:\n", "- 1\n", ""))
	})
	add(false, "comments in CUE", "", func() map[string]string {
		return repeated(60, "projects/web/f%d.cue", fill(mib, "", "//\n", ""))
	})
	add(false, "comments in YAML", "", func() map[string]string {
		return repeated(60, "projects/web/f%d.yaml", fill(mib, "", "#\n", ""))
	})
	add(true, "a long name with many fields", "names that are longer than 1024 bytes", func() map[string]string {
		return repeated(20, "projects/web/f%d.cue", fill(mib, strings.Repeat("k", mib/2)+": {", "a: 1\n", "}\n"))
	})
	add(false, "long names in each other", "names that are longer than 1024 bytes", func() map[string]string {
		open := strings.Repeat(strings.Repeat("k", 1000)+": {", 40)
		return repeated(20, "projects/web/f%d.cue", fill(mib, open, "a: 1\n", strings.Repeat("}", 40)))
	})
	add(false, "one field many times", "", func() map[string]string {
		return repeated(1, "projects/web/f%d.cue", fill(mib, "", "containers: app: comment: \"x\"\n", ""))
	})
	add(false, "different values of one field", "two different values", func() map[string]string {
		return repeated(40, "projects/web/f%d.cue", fill(mib, "", "a: 1\na: 2\n", ""))
	})
	add(false, "texts of a MiB", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i := range 60 {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fill(mib, fmt.Sprintf("containers: con%d: comment: \"", i), "x", "\"\n"))
			}
		})
	})
	add(false, "braces that close nothing", "closes nothing", func() map[string]string {
		return repeated(60, "projects/web/f%d.cue", fill(mib, "", "}\n", ""))
	})
	add(false, "bytes that are no text", "", func() map[string]string {
		return repeated(60, "projects/web/f%d.cue", fill(mib, "", "\x00\xff\xfe", ""))
	})
	add(true, "nesting", "nests deeper than 100 levels", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i, deep := range []string{"{a: ", "[", "a: ", `"\(`, "1+", "a.", "(", "-"} {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fill(mib, "a: ", deep, "1"))
				add(fmt.Sprintf("projects/web/f%d.json", i), fill(mib, `{"a":`, `[`, ""))
				add(fmt.Sprintf("projects/web/f%d.yaml", i), fill(mib, "a: ", "[", ""))
			}
		})
	})
	add(false, "folders in each other", "nest deeper than 100 levels|a name may have 1024", func() map[string]string {
		return one("projects/web/"+strings.Repeat("a/", 3000)+"a.cue", "")
	})
	add(false, "a number without end", "out of all bounds", func() map[string]string {
		return one(app, "containers: app: resources: cpu: 1e999999999\n")
	})
	add(false, "a number of a MiB", "out of all bounds", func() map[string]string {
		return repeated(60, "projects/web/f%d.cue", fill(mib, "a: 1", "0", "\n"))
	})
	add(false, "anchors in YAML", "are not read; write the value out", func() map[string]string {
		var b strings.Builder
		b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
		for i := range 60 {
			fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i)
		}
		return repeated(1000, "projects/web/f%d.yaml", b.String())
	})
	add(false, "one container in 5,000 files", "more; mend these first", func() map[string]string {
		return repeated(5000, "projects/web/f%d.cue", "containers: app: {}\n")
	})
	add(false, "each container depends on each", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			const n = 500
			var all []string
			for i := range n {
				all = append(all, fmt.Sprintf("%q", fmt.Sprint("con", i)))
			}
			for i := range n {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fmt.Sprintf("containers: con%d: depends_on: [%s]\n", i, strings.Join(all, ",")))
			}
		})
	})
	add(false, "each container depends on all before it", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			var before []string
			for i := range 600 {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fmt.Sprintf("containers: con%d: depends_on: [%s]\n", i, strings.Join(before, ",")))
				before = append(before, fmt.Sprintf("%q", fmt.Sprint("con", i)))
			}
		})
	})
	add(false, "domains and paths of aliases", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i := range 40 {
				var b strings.Builder
				fmt.Fprintf(&b, "containers: con%d: {}\n", i)
				for j := range 50 {
					fmt.Fprintf(&b, "aliases: \"a%d-%d\": {container: \"con%d\", program: \"http\", port: 80, domains: [", i, j, i)
					for k := range 20 {
						fmt.Fprintf(&b, "\"d%d-%d-%d.example.org\", ", i, j, k)
					}
					b.WriteString("], paths: {")
					for k := range 20 {
						fmt.Fprintf(&b, "\"/p%d\": {port: 81}, ", k)
					}
					b.WriteString("}}\n")
				}
				add(fmt.Sprintf("projects/web/f%d.cue", i), b.String())
			}
		})
	})
	add(false, "rules and ports of firewalls", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i := range 40 {
				rule := "{direction: \"ingress\", action: \"drop\", source: \"10.0.0.0/8,10.1.0.0/16,10.2.0.0/16\", destination_port: \"1-100,200,300\"}, "
				add(fmt.Sprintf("projects/web/f%d.cue", i), fmt.Sprintf("containers: con%d: firewall: [%s]\n", i, strings.Repeat(rule, 500)))
			}
		})
	})
	add(false, "aliases of nothing", "more; mend these first", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i := range 20 {
				var b strings.Builder
				for j := range 1000 {
					fmt.Fprintf(&b, "aliases: \"a%d-%d\": {container: \"none\", program: \"http\", port: 80}\n", i, j)
				}
				add(fmt.Sprintf("projects/web/f%d.cue", i), b.String())
			}
		})
	})
	add(false, "groups that everything inherits", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			var b strings.Builder
			b.WriteString("permissions: groups: {\n")
			for i := range 2000 {
				fmt.Fprintf(&b, "\tg%d: {type: \"ip\", range: \"10.0.0.0/8\"}\n", i)
			}
			b.WriteString("}\npermissions: permissions: {\n")
			for i := range 2000 {
				fmt.Fprintf(&b, "\tg%d: {http: \"*\", ssh: \"*\"}\n", i)
			}
			add("projects/web/p.cue", b.String()+"}\n")
			for i := range 2000 {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fmt.Sprintf("containers: con%d: permissions: {inherit: true, groups: own: {type: \"ip\", range: \"10.0.0.0/8\"}}\n", i))
			}
		})
	})
}

// expressions are programs.
func (c *corpus) expressions() {
	add := c.add
	add(true, "texts that are repeated", "of memory to evaluate|comes to more than", func() map[string]string {
		return repeated(40, "projects/web/f%d.cue", "import \"strings\"\ncontainers: app: comment: strings.Repeat(\"x\"*1000000, 100)\n")
	})
	add(false, "texts that double", "of memory to evaluate", func() map[string]string {
		return one(app, doubling("\"xxxxxxxxxxxxxxxx\"", "x%[2]d + x%[2]d"))
	})
	add(false, "lists that double", "to evaluate", func() map[string]string {
		return one(app, doubling("[1, 1]", "[for a in x%[2]d for b in [1, 2] {a + b}]"))
	})
	add(false, "lists that double in many files", "", func() map[string]string {
		return repeated(300, "projects/web/f%d.cue", doubling("[1, 1]", "[for a in x%[2]d for b in [1, 2] {a + b}]"))
	})
	add(false, "counting without end", "is not evaluated within 10s|of memory to evaluate", func() map[string]string {
		var b strings.Builder
		b.WriteString("import \"list\"\ncontainers: app: comment: \"\\(list.Sum([")
		for i := range 9 {
			fmt.Fprintf(&b, "for i%d in list.Range(0, 10, 1) if list.Max([i%d, 0]) >= 0 ", i, i)
		}
		return one(app, b.String()+"if i0 < 0 {1}]))\"\n")
	})
	add(false, "values that are repeated", "comes to more than", func() map[string]string {
		return repeated(40, "projects/web/f%d.cue", "import \"list\"\nlet row = list.Repeat([\"abc\"], 400)\ncontainers: app: depends_on: [for _ in row {row}]\n")
	})
	add(false, "packages that import each other", "import each other in a circle", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			add("cue.mod/module.cue", "module: \"a.example\"\nlanguage: version: \"v0.9.0\"\n")
			add("lib/a/a.cue", "package a\nimport \"a.example/lib/b\"\nx: b.x\n")
			add("lib/b/b.cue", "package b\nimport \"a.example/lib/a\"\nx: a.x\n")
			for i := range 1000 {
				add(fmt.Sprintf("projects/web/f%d.cue", i), "import \"a.example/lib/a\"\ncontainers: app: comment: a.x\n")
			}
		})
	})
	add(false, "a large library that all import", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			add("cue.mod/module.cue", "module: \"a.example\"\nlanguage: version: \"v0.9.0\"\n")
			for i := range 30 {
				add(fmt.Sprintf("lib/a/f%d.cue", i), fill(mib, fmt.Sprintf("package a\nf%d: [", i), "{}, ", "]\n"))
			}
			for i := range 100 {
				add(fmt.Sprintf("projects/web/f%d.cue", i), "import \"a.example/lib/a\"\ncontainers: app: comment: \"\\(len(a.f0))\"\n")
			}
		})
	})
	add(false, "a list that refers to itself", "", func() map[string]string {
		return repeated(500, "projects/web/f%d.cue", "a: [b]\nb: [a]\nc: c\nd: {e: d}\n")
	})
	add(false, "messages of a MiB", "", func() map[string]string {
		long := strings.Repeat("x", mib/4)
		return repeated(60, "projects/web/f%d.cue", "a: \""+long+"\" & \"y"+long+"\"\n")
	})
}

// doubling is forty definitions, each of the one before.
func doubling(first, next string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "let x0 = %s\n", first)
	for i := range 40 {
		fmt.Fprintf(&b, "let x%[1]d = "+next+"\n", i+1, i)
	}
	b.WriteString("containers: app: comment: \"\\(len(x40))\"\n")
	return b.String()
}

// secrets are trees that name what the machine has.
func (c *corpus) secrets(fifo string) {
	c.add(true, "secrets of the machine", "", func() map[string]string {
		return treeOf(func(add func(name, text string)) {
			for i, file := range []string{"/dev/zero", "/dev/random", "/dev/stdin", "/proc/self/environ", "/proc/kmsg", "/etc/shadow", fifo, "/nowhere"} {
				add(fmt.Sprintf("projects/web/f%d.cue", i), fmt.Sprintf(`
containers: con%[1]d: {
	environment_vars: {A: {file: %[2]q}, B: {env: "PATH"}, C: {age: "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n"}}
	permissions: {
		groups: {
			t: {type: "token", header: "X-Token", value: {file: %[2]q}}
			p: {type: "password", username: "a", hash: {file: %[2]q}}
		}
		permissions: {t: http: "*", p: http: "*"}
	}
}
`, i, file))
			}
		})
	})
}
