package edge

import (
	"fmt"
	"net/http"
	"testing"

	"swage/edge/limit"
)

// TestTooManyGuesses: the answer is 429 with the time to wait, even to who is
// right at last; where no credential counts it stays what it is.
func TestTooManyGuesses(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	p := house()
	p.Groups["here"] = ranges("127.0.0.4/32")
	p.Cells["here"] = map[string]Cell{"http": {All: true}, "files": {All: true}}
	s := serveHouse(t, app, p)
	for _, from := range []string{"127.0.0.2", "127.0.0.4"} {
		c := s.client(t, from, 2)
		for i := range limit.ClientBurst + 1 {
			res, _ := get(t, c, origin(app.Port()), "Authorization", basic("ann", fmt.Sprint(i)))
			want := map[bool]int{false: http.StatusUnauthorized, true: http.StatusTooManyRequests}[i == limit.ClientBurst]
			if from == "127.0.0.4" {
				want = http.StatusOK // the address is enough
			}
			if res.StatusCode != want {
				t.Errorf("guess %d from %s: %d, want %d", i, from, res.StatusCode, want)
			}
		}
	}
	c := s.client(t, "127.0.0.2", 1)
	res, _ := get(t, c, origin(app.Port()), "Authorization", basic("ann", "horse"))
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || res.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("the right one: %d, %v", res.StatusCode, res.Header)
	}
	if res, _ := get(t, c, "https://nothing."+zone, "Authorization", basic("ann", "x")); res.StatusCode != http.StatusNotFound {
		t.Errorf("elsewhere: %d", res.StatusCode)
	}
	if res, _ := get(t, s.client(t, "127.0.0.3", 1), origin(app.Port()), "Authorization", basic("ann", "horse")); res.StatusCode != http.StatusOK {
		t.Errorf("from another address: %d", res.StatusCode)
	}
}
