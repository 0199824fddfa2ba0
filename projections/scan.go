package projections

// plainString returns what a JSON string without escapes says, or "".
func plainString(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	return string(value[1 : len(value)-1])
}
