package schema_test

import (
	"testing"

	"swage/schema"
)

func TestDeclareKeepsWhatIsThere(t *testing.T) {
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
			"// Ours.\ncontainers: web: {} // the site\n\n// The end.\n\naliases: \"my-api\": {\n\tcontainer: \"web\"\n}\n",
		},
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
			if want := c.want + "\nx: {}\n"; string(again) != want {
				t.Errorf("formatting is not stable:\n%s", again)
			}
		})
	}
	if _, err := schema.Declare("a.cue", []byte("a: {"), []string{"b"}, nil); err == nil {
		t.Error("a file that does not parse was changed")
	}
}
