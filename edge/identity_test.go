package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// rowsOf are the lines of a file below testdata that are neither empty nor
// comments, in fields apart by two blanks or more.
func rowsOf(t *testing.T, file string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(strings.NewReader(string(text)))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var fields []string
		for f := range strings.SplitSeq(line, "  ") {
			if f = strings.TrimSpace(f); f != "" {
				fields = append(fields, f)
			}
		}
		rows = append(rows, fields)
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no rows", file)
	}
	return rows
}

// identities are the names of testdata/identity.txt.
func identities(t *testing.T) (removed, passes []string) {
	t.Helper()
	for _, row := range rowsOf(t, "identity.txt") {
		switch names := strings.Fields(row[1]); row[0] {
		case "removed":
			removed = append(removed, names...)
		case "passes":
			passes = append(passes, names...)
		default:
			t.Fatalf("%q", row)
		}
	}
	if len(removed) < 100 || len(passes) < 40 {
		t.Fatalf("only %d and %d names", len(removed), len(passes))
	}
	return removed, passes
}

// spellings of a name that servers read as one.
func spellings(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
		strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "!"), strings.ReplaceAll(name, "-", "~"),
	}
}

// TestS17EveryName: each name of testdata/identity.txt and of each family, in
// every spelling.
func TestS17EveryName(t *testing.T) {
	removed, passes := identities(t)
	for _, f := range families {
		for _, name := range f.names {
			start, open := strings.CutSuffix(name, "*")
			removed = append(removed, start)
			if open {
				removed = append(removed, start+"Anything", start+strings.Repeat("x", 100))
			} else if isForged(name + "s") {
				t.Errorf("%ss is removed, too", name)
			}
		}
	}
	for _, name := range removed {
		for _, spelling := range spellings(name) {
			if !isForged(spelling) {
				t.Errorf("%s passes", spelling)
			}
		}
	}
	for _, name := range passes {
		for _, spelling := range spellings(name) {
			if isForged(spelling) {
				t.Errorf("%s is removed", spelling)
			}
		}
	}
	if isForged("") {
		t.Error("no name is removed")
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range passes {
			isForged(name)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestS17Arrives: what arrives of testdata/identity.txt, in the header and in
// the trailer.
func TestS17Arrives(t *testing.T) {
	removed, passes := identities(t)
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = json.NewEncoder(w).Encode([]http.Header{r.Header, r.Trailer})
	})
	s := serve(t, mustCompile(t, at(app.Addr(), nil)))
	each(t, func(t *testing.T, version int) {
		c := s.client(t, "127.0.0.2", version)
		send := func(trailer bool, names []string) (arrived http.Header) {
			r, err := http.NewRequest(http.MethodPost, origin(app.Port()), io.MultiReader(strings.NewReader("a body")))
			if err != nil {
				t.Fatal(err)
			}
			into := r.Header
			if trailer {
				r.Trailer = http.Header{}
				into = r.Trailer
			}
			for _, name := range names {
				into[name] = []string{"forged"}
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var all []http.Header
			if err := json.NewDecoder(res.Body).Decode(&all); err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(res.Status, err)
			}
			if trailer {
				return all[1]
			}
			return all[0]
		}
		var spelled []string
		for _, name := range removed {
			spelled = append(spelled, name, strings.ReplaceAll(name, "-", "_"), strings.ToLower(strings.ReplaceAll(name, "-", ".")))
		}
		for names := range slices.Chunk(spelled, 60) {
			for _, trailer := range []bool{false, true} {
				for name, values := range send(trailer, names) {
					if slices.Contains(values, "forged") {
						t.Errorf("trailer %v: %s arrives", trailer, name)
					}
				}
			}
		}
		for names := range slices.Chunk(passes, 60) {
			arrived := send(false, names)
			for _, name := range names {
				if name != "Cache-Control" && arrived.Get(name) != "forged" {
					t.Errorf("%s does not arrive", name)
				}
			}
		}
	})
}

// TestS17Documented: docs/reference.md has the families as they are.
func TestS17Documented(t *testing.T) {
	var want strings.Builder
	want.WriteString("| sender | fields |\n|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&want, "| %s | `%s` |\n", f.sender, strings.Join(f.names, "`, `"))
	}
	text, err := os.ReadFile("../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/reference.md does not have this table:\n%s", &want)
	}
}

// BenchmarkIsForged: the header of a browser.
func BenchmarkIsForged(b *testing.B) {
	names := []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Referer", "Sec-Ch-Ua", "Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform",
		"Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Upgrade-Insecure-Requests", "User-Agent", "X-Requested-With",
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, name := range names {
			if isForged(name) {
				b.Fatal(name)
			}
		}
	}
}
