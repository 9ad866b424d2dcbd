package ship

// Hold keeps a budget's buffers between uploads: histories make thousands of
// small ones.
func (m *Memory) Hold() (done func()) { return m.use() }
