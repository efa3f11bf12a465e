package schema

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fieldsOf lists every place where an author writes a value of their own below
// some definitions: "#Definition.field" for fields, "#Definition.field.*" for
// names that are free. A definition that several fields share is listed once.
func fieldsOf(all map[string]*shape, roots ...string) []string {
	found, seen := map[string]bool{}, map[*shape]bool{}
	var walk func(s *shape, path string)
	walk = func(s *shape, path string) {
		if strings.HasPrefix(s.name, "#") && s.structured() {
			path = s.name
		}
		switch {
		case len(s.options) > 0:
			if !slices.ContainsFunc(s.options, func(o *shape) bool { return o.structured() }) {
				found[path] = true
				return
			}
			for _, o := range s.options {
				walk(o, path)
			}
		case s.kind == isList && s.elem != nil:
			walk(s.elem, path)
		case s.kind == isStruct:
			if seen[s] {
				return
			}
			seen[s] = true
			for _, m := range s.fields {
				walk(m.shape, path+"."+m.name)
			}
			if s.each != nil {
				found[path+".*"] = true
				walk(s.each, path)
			}
		default:
			found[path] = true
		}
	}
	for _, root := range roots {
		walk(all[root], root)
	}
	out := make([]string, 0, len(found))
	for f := range found {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// structured reports whether there are fields in it.
func (s *shape) structured() bool {
	return s.kind == isStruct || s.kind == isList && s.elem != nil && s.elem.structured() ||
		slices.ContainsFunc(s.options, func(o *shape) bool { return o.structured() })
}

// securityModel are the sections of docs/security.md by title.
func securityModel(t *testing.T) map[string]string {
	t.Helper()
	src, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	out, title := map[string]string{}, ""
	for line := range strings.Lines(string(src)) {
		if name, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "##") {
			title = strings.TrimSpace(name)
			continue
		}
		out[title] += line
	}
	return out
}

// tableRows are the rows of the tables of a section, without their heads.
func tableRows(section string) (rows [][]string) {
	head := true
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			head = true
		case strings.HasPrefix(line, "|---"):
			head = false
		case !head:
			rows = append(rows, strings.Split(strings.Trim(line, "|"), " | "))
		}
	}
	return rows
}

var (
	aField = regexp.MustCompile("`(#[A-Za-z]+(?:\\.[a-z0-9_]+)*(?:\\.\\*)?)`")
	aTest  = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
)

// TestS9EveryFieldHasItsRow [G8]: docs/security.md says of every field that a
// repository may have what it reaches on the host, with the tests of that, or
// that it reaches nothing. A field that is new in the schema has no row, and
// fails until somebody has thought about it.
func TestS9EveryFieldHasItsRow(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	model := securityModel(t)
	said := map[string]string{}
	for _, section := range []string{"What repository content reaches on the host", "What stays in swage"} {
		rows := tableRows(model[section])
		if len(rows) == 0 {
			t.Fatalf("docs/security.md has no table %q", section)
		}
		for _, row := range rows {
			for _, m := range aField.FindAllStringSubmatch(row[0], -1) {
				if other, twice := said[m[1]]; twice && other != section {
					t.Errorf("%s stands in %q and in %q", m[1], other, section)
				}
				said[m[1]] = section
			}
		}
	}
	fields := fieldsOf(all, "#Swage", "#Server", "#File")
	if len(fields) < 150 {
		t.Fatalf("the schema has %d fields", len(fields))
	}
	for _, f := range fields {
		if said[f] == "" {
			t.Errorf("%s: what does it reach on the host? docs/security.md does not say", f)
		}
		delete(said, f)
	}
	for f, section := range said {
		t.Errorf("%s: %q has it, and the schema does not", f, section)
	}
}

// TestSecurityModelNamesTests: every row that promises something names tests,
// and they are there.
func TestSecurityModelNamesTests(t *testing.T) {
	there := map[string]bool{}
	declares := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		for _, m := range declares.FindAllSubmatch(src, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for title, section := range securityModel(t) {
		for _, m := range aTest.FindAllStringSubmatch(section, -1) {
			if named++; !there[m[1]] {
				t.Errorf("%s: there is no test %s", title, m[1])
			}
		}
		if strings.Contains(section, "| test |") {
			for _, row := range tableRows(section) {
				if last := row[len(row)-1]; !aTest.MatchString(last) {
					t.Errorf("%s: %s: no test holds it", title, row[0])
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("%d tests are named", named)
	}
}

// TestS9NamesHoldNothingElse [G8]: what becomes a name on the host holds no
// character that means something to a path, a shell, a rule or a line.
func TestS9NamesHoldNothingElse(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	field := func(definition, name string) *shape {
		s := all[definition].member(name).shape
		if s.elem != nil {
			s = s.elem
		}
		return s
	}
	names := map[string]*shape{
		"#Server.storage_pool": field("#Server", "storage_pool"), "#Network.bridge": field("#Network", "bridge"),
		"#Incus.project_prefix": field("#Incus", "project_prefix"),
	}
	for _, d := range []string{"#ID", "#Label", "#ProjectName", "#ContainerName", "#AliasName", "#Image", "#Domain", "#SnapshotName", "#EnvName", "#ProgramName", "#TokenName"} {
		names[d] = all[d]
	}
	hostile := []string{
		"../etc", "a/../b", "/etc/passwd", "a\x00bc", "abc\n", "abc\ndef", "abc\r", "a bc", "a\tbc", "abc;id", "$(id)abc", "`id`abc", "a|bc", "a&bc",
		"a>bc", "a\"bc", "a'bc", "a\\bc", "a{bc}", "a#bc", "a%2fbc", "a*bc", "a?bc", "~abc", "abc=def", "a,bc", "a@bc", "äbc", "",
	}
	for name, s := range names {
		for _, text := range hostile {
			if s.accepts(&value{Kind: isText, Text: text}) {
				t.Errorf("%s takes %q", name, text)
			}
		}
	}
	for _, s := range []*shape{all["#ID"], all["#Label"], all["#Domain"], all["#Image"], all["#AliasName"], names["#Network.bridge"], names["#Server.storage_pool"], names["#Incus.project_prefix"]} {
		if s.accepts(&value{Kind: isText, Text: "-option"}) {
			t.Errorf("%s takes an option", s.name)
		}
	}
	for _, text := range []string{"/../x", "/a/..", "//evil.example", "/a b", "/a\r\nX: y", "/a?b", "/%2e%2e/", "a", "", "http://x/"} {
		if all["#URLPath"].accepts(&value{Kind: isText, Text: text}) {
			t.Errorf("a path may be %q", text)
		}
	}
	for _, text := range []string{"* * * *", "* * * * *;id", "@reboot", "* * * * *\nx", "$(id)"} {
		if field("#Snapshots", "schedule").accepts(&value{Kind: isText, Text: text}) {
			t.Errorf("a schedule may be %q", text)
		}
	}
	for _, text := range []string{"default/../x", "/x", "x/", "a/b/c", "a/b?c", "a b/c", "x", "a/..", "a/b\\n"} {
		if field("#Container", "adopt").accepts(&value{Kind: isText, Text: text}) {
			t.Errorf("an instance may be %q", text)
		}
	}
}

// TestS9AddressesAreHTTPS [G8]: what the agent, or Incus for it, is told to call
// is an https address.
func TestS9AddressesAreHTTPS(t *testing.T) {
	all, err := shapes()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]string{
		{"#ACME", "directory"}, {"#Incus", "remote"}, {"#Incus", "image_server"}, {"#ForgeAPI", "url"}, {"#JWTGroup", "jwks_url"},
	} {
		s := all[at[0]].member(at[1]).shape
		if !s.accepts(&value{Kind: isText, Text: "https://example.com/x"}) {
			t.Errorf("%v takes no address", at)
		}
		for _, text := range []string{
			"http://example.com/", "HTTPS://example.com", "file:///etc/shadow", "unix:///run/docker.sock", "ftp://example.com", "gopher://x",
			"//example.com", "https:/x", "https://", "https:///x", "https://?x", "https://a b", " https://example.com", "example.com", "",
		} {
			if s.accepts(&value{Kind: isText, Text: text}) {
				t.Errorf("%v takes %q", at, text)
			}
		}
	}
	events := all["#Swage"].member("events").shape.member("url").shape
	if events.accepts(&value{Kind: isText, Text: "http://example.com/"}) || !events.accepts(&value{Kind: isText, Text: "https://example.com/"}) {
		t.Error("events are sent elsewhere than to https addresses")
	}
}
