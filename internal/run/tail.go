package run

// stderrLimit is how much of a program's standard error is kept, in bytes.
const stderrLimit = 16 << 10

// tail keeps the last stderrLimit bytes written to it.
type tail struct {
	kept []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - stderrLimit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	if t.cut {
		return "… " + string(t.kept)
	}
	return string(t.kept)
}
