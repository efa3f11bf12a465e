package edge

import (
	"fmt"
	"testing"
)

// TestIndex: each container is found, and nothing else.
func TestIndex(t *testing.T) {
	for n := range 200 {
		all := map[string]*container{}
		for i := range n {
			c := &container{id: fmt.Sprint(i)}
			copy(c.key[:], c.id)
			all[c.id] = c
		}
		x := newIndex(all)
		for i := range 2*n + 2 {
			var k key
			copy(k[:], fmt.Sprint(i))
			if got := x.find(&k); got != all[fmt.Sprint(i)] {
				t.Fatalf("of %d, number %d is %v", n, i, got)
			}
		}
	}
}
