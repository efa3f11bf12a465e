package edge

import "hash/maphash"

// index finds the containers of a table by key. What a lookup reads is one slot
// of a small array and then the container; a map would read another copy of the
// key in between, from memory that is seldom at hand.
type index struct {
	seed  maphash.Seed
	slots []slot // a power of two, of which a third is free at least
}

type slot struct {
	hash      uint64
	container *container // nil: free
}

func newIndex(all map[string]*container) index {
	size := 1
	for size <= 3*len(all)/2 {
		size *= 2
	}
	x := index{maphash.MakeSeed(), make([]slot, size)}
	for _, c := range all {
		i, h := x.look(&c.key)
		x.slots[i] = slot{h, c}
	}
	return x
}

// look returns the slot of a key, or the free one where it would be.
func (x *index) look(k *key) (i int, hash uint64) {
	hash = maphash.Bytes(x.seed, k[:])
	for i := hash; ; i++ {
		i &= uint64(len(x.slots) - 1)
		s := &x.slots[i]
		if s.container == nil || s.hash == hash && s.container.key == *k {
			return int(i), hash
		}
	}
}

// find returns the container of a key, nil if there is none.
func (x *index) find(k *key) *container {
	i, _ := x.look(k)
	return x.slots[i].container
}
