package schema_test

import (
	"strings"
	"testing"

	"swage/schema"
)

// TestP11DeclareOnlyAdds: every byte of the file stays, and what is added has
// the file's line ends.
func TestP11DeclareOnlyAdds(t *testing.T) {
	for _, c := range []struct {
		name, src string
		path      []string
		fields    schema.Fields
		want      string
	}{
		{
			"a new file", "",
			[]string{"containers", "web"},
			schema.Fields{{"id", "890abcdef12345678901cdef"}, {"environment_vars", schema.Fields{{"A-B", "x \"y\""}}}, {"kit", true}, {"port", 80}},
			"containers: web: {\n\tid: \"890abcdef12345678901cdef\"\n\tenvironment_vars: {\n\t\t\"A-B\": \"x \\\"y\\\"\"\n\t}\n\tkit:  true\n\tport: 80\n}\n",
		},
		{
			"comments and order stay",
			"// Ours.\ncontainers:   web: {}   // the site\n\n// The end.\n",
			[]string{"aliases", "my-api"},
			schema.Fields{{"container", "web"}},
			"// Ours.\ncontainers:   web: {}   // the site\n\n// The end.\n\naliases: \"my-api\": {\n\tcontainer: \"web\"\n}\n",
		},
		{"line ends of another system", "a: 1\r\n", []string{"x"}, schema.Fields{{"y", 2}}, "a: 1\r\n\r\nx: {\r\n\ty: 2\r\n}\r\n"},
		{"no line end", "a: 1 // one", []string{"x"}, nil, "a: 1 // one\n\nx: {}\n"},
		{"a byte order mark", "\xef\xbb\xbfa: 1\n", []string{"x"}, nil, "\xef\xbb\xbfa: 1\n\nx: {}\n"},
		{"an empty object", "a: 1\n", []string{"containers", "web"}, nil, "a: 1\n\ncontainers: web: {}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := schema.Declare("a.cue", []byte(c.src), c.path, c.fields)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			again, err := schema.Declare("a.cue", got, []string{"x"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			end := "\n"
			if strings.Contains(c.want, "\r\n") {
				end = "\r\n"
			}
			if want := c.want + end + "x: {}" + end; string(again) != want {
				t.Errorf("added a second time:\n%q", again)
			}
		})
	}
	if _, err := schema.Declare("a.cue", []byte("a: {"), []string{"b"}, nil); err == nil {
		t.Error("a file that does not parse was changed")
	}
	for _, name := range []string{"a.yaml", "a.yml", "a.json"} {
		if _, err := schema.Declare(name, []byte("{}"), []string{"b"}, nil); err == nil || !strings.Contains(err.Error(), "name a .cue file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
