package schema_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"swage/schema"
)

// TestP12OneRuleForTheBytesOfAFile: a byte order mark is no part of the text,
// and what is not UTF-8 is named as that, in every format and every place.
func TestP12OneRuleForTheBytesOfAFile(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	good := func() map[string]string {
		return map[string]string{
			"swage.cue":                "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n",
			"cue.mod/module.cue":       "module: \"fleet.example\"\nlanguage: version: \"v0.9.0\"\n",
			"lib/x/x.cue":              "package x\n#Word: \"hi\"\n",
			"servers/lab.json":         "{\"listen\": [\":443\"]}",
			"projects/web/app.cue":     "containers: app: {}\n",
			"projects/web/other.yaml":  "containers:\n  other: {}\n",
			"projects/web/third.json":  "{\"containers\": {\"third\": {}}}",
			"projects/web/fourth.cue":  "import \"fleet.example/lib/x\"\ncontainers: fourth: comment: x.#Word\n",
			"projects/web/fifth/a.yml": "containers:\n  fifth: {}\n",
		}
	}
	load := func(files map[string]string) (*schema.Fleet, error) {
		tree := fstest.MapFS{}
		for name, src := range files {
			tree[name] = &fstest.MapFile{Data: []byte(src)}
		}
		return schema.Load(t.Context(), tree)
	}
	for name := range good() {
		files := good()
		files[name] = mark + files[name]
		if f, err := load(files); err != nil || len(f.Projects[0].Containers) != 5 {
			t.Errorf("%s with a byte order mark: %v", name, err)
		}
		for wrong, want := range map[string]string{
			"\xff\xfea\x00":     name + ": is encoded in UTF-16; save it as UTF-8",
			"\xfe\xff\x00a":     name + ": is encoded in UTF-16; save it as UTF-8",
			"{}\n \"caf\xe9\"":  name + ":2:6: is not UTF-8 from here on; save the file as UTF-8",
			mark + "\xef\xbb\n": name + ":1:4: is not UTF-8 from here on; save the file as UTF-8",
		} {
			files[name] = wrong
			if _, err := load(files); err == nil || !strings.Contains(err.Error()+"\n", want+"\n") {
				t.Errorf("%s as %q: %v, want %s", name, wrong, err, want)
			}
		}
	}
	node := "server: \"lab\"\nsource: path: \"/srv\"\n"
	if _, err := schema.LoadNode("agent.cue", []byte(mark+node)); err != nil {
		t.Error(err)
	}
	if _, err := schema.LoadNode("agent.cue", []byte("\xff\xfes")); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Error(err)
	}
}
