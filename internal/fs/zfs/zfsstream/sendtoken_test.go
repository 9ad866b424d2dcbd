package zfsstream

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

// TestToken makes a token for the position at which the kernel's receiver made
// one: the lists hold the same, though ours is in XDR and names come in
// another order.
func TestToken(t *testing.T) {
	tok := Token{
		Name: "tank/a@snapd_20261121T101112Z_b", ToGUID: 0x956bb7a240f38cfd, Object: 0x25, Bytes: 0x37a0, Features: featureCompressed,
	}
	text := tok.String()
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "1" {
		t.Fatalf("got %q", text)
	}
	packed, err := hex.DecodeString(parts[3])
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	list, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"object", "offset", "bytes", "toguid", "toname", "compressok", tok.Name} {
		if !bytes.Contains(list, []byte(name)) {
			t.Errorf("the list lacks %q", name)
		}
	}
	for _, name := range []string{"fromguid", "rawok", "embedok", "largeblockok"} {
		if bytes.Contains(list, []byte(name)) {
			t.Errorf("the list has %q", name)
		}
	}
	// The checksum of the kernel's own token is made as ours is.
	theirs := strings.Split(strings.TrimSpace(string(recorded(t, "token"))), "-")
	raw, err := hex.DecodeString(theirs[3])
	if err != nil {
		t.Fatal(err)
	}
	if sum := fletcherOf(raw[:len(raw)&^3]); hexWord(sum[0]) != theirs[1] {
		t.Errorf("the checksum is %s, want %s", hexWord(sum[0]), theirs[1])
	}
}

func hexWord(n uint64) string {
	return strings.TrimLeft(hex.EncodeToString([]byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), "0")
}
