package git

// taken is how many gits are served.
func (s *slots) taken() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.all {
		n += k
	}
	return n
}
