package schema

import "testing"

// [F8] A secret that is resolved on the node is held to what a plain value is.
func TestCheckEnv(t *testing.T) {
	for value, ok := range map[string]bool{
		"production": true, " x": true, "a b": true, "é": true,
		"": false, "x ": false, "x\t": false, "x\ny": false, "x\r": false, "x\x00": false,
		string(make([]byte, maxEnv+1)): false,
	} {
		if err := CheckEnv(value); (err == nil) != ok {
			t.Errorf("%.20q: %v", value, err)
		}
	}
}
