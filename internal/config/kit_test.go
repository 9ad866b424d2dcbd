package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func kitForTest() Kit {
	return Kit{
		Host: "web1", Made: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Repositories: []Repository{
			{Name: "main", URL: "s3://backups/web1", Endpoint: "https://minio:9000", Region: "r1", Signer: "RWQ1", Recipients: []string{"age1a", "age1b"}, Identity: "AGE-SECRET-KEY-1A\nAGE-SECRET-KEY-1B", SealedSigningKey: "-----BEGIN\nabc\n-----END\n"},
			{Name: "off.site", URL: `file:///srv/a "b" \c ä`, Signer: "RWQ2", Encryption: EncryptionNone},
		},
		Proved: []string{"main: restore point p1 was opened."}, Commands: []string{"snapd list"},
	}
}

func TestKitIsReadAsItWasWritten(t *testing.T) {
	k := kitForTest()
	got, err := ParseKit("kit", []byte(FormatKit(k)))
	if err != nil {
		t.Fatalf("%v\n%s", err, FormatKit(k))
	}
	for _, want := range k.Repositories {
		r := got.Repositories[want.Name]
		kept := Repository{Name: r.Name, URL: r.URL, Endpoint: r.Endpoint, Region: r.Region, Signer: r.Signer, Recipients: r.Recipients, Identity: r.Identity, SealedSigningKey: r.SealedSigningKey}
		want.Encryption = ""
		if d := cmp.Diff(want, kept); d != "" {
			t.Error(d)
		}
	}
	if !strings.Contains(FormatKit(k), "restore point p1 was opened") {
		t.Error("it does not say what was tried")
	}
}

func TestWhatIsLessThanAKitSaysSo(t *testing.T) {
	k := kitForTest()
	card := FormatCard(k)
	if strings.Contains(card, "AGE-SECRET-KEY-1") || strings.Contains(card, "BEGIN") || strings.HasPrefix(card, "# snapd recovery kit") {
		t.Errorf("a card holds secrets, or calls itself a kit:\n%s", card)
	}
	if _, err := ParseKit("card", []byte(card)); err != nil {
		t.Error(err)
	}
	draft := FormatUnfinishedKit(k)
	if _, err := ParseKit("draft", []byte(draft)); err == nil || !strings.Contains(err.Error(), "not finished") {
		t.Errorf("an unfinished kit is taken for one: %v", err)
	}
	c, err := ParseUnfinishedKit("draft", []byte(draft))
	if err != nil || c.Repositories["main"].Identity != k.Repositories[0].Identity {
		t.Errorf("the identity is not kept: %+v, %v", c, err)
	}
}

func TestKitOfAnOlderSnapd(t *testing.T) {
	old := "[repository.main]\nurl      = \"file:///srv/repo\"\nsigner   = \"RWQ1\"\nidentity = \"AGE-SECRET-KEY-1A\"\n"
	c, err := ParseKit("kit", []byte(old))
	if err != nil || c.Repositories["main"].Identity != "AGE-SECRET-KEY-1A" {
		t.Errorf("%+v, %v", c, err)
	}
}
