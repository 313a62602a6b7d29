package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

const accountsPage = "docs/several-accounts.md"

// operated is a server with an operator, whose accounts are known by JWTs, and a user's credentials file for each.
type operated struct {
	srv      *natsd.Server
	operator nkeys.KeyPair
	accounts map[string]nkeys.KeyPair      // by the account's name, as are the others
	claims   map[string]*jwt.AccountClaims // what the server knows of each
	creds    map[string]string
}

// key makes a pair of keys, and returns it with its public key.
func key(t testing.TB, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	return pair, public
}

// startOperated starts a server in operator mode with these accounts, and JetStream for each of them. Names may be there twice: the credentials are then of "NAME 2".
func startOperated(t testing.TB, name string, accounts ...string) *operated {
	t.Helper()
	operator, operatorID := key(t, nkeys.CreateOperator)
	claims := jwt.NewOperatorClaims(operatorID)
	claims.Name = "operator"
	token, err := claims.Encode(operator)
	must(t, err)
	systemKey, systemID := key(t, nkeys.CreateAccount)
	system := jwt.NewAccountClaims(systemID)
	system.Name = "SYS"
	preload := map[string]string{}
	preload[systemID], err = system.Encode(operator)
	must(t, err)
	o := &operated{
		operator: operator, accounts: map[string]nkeys.KeyPair{}, claims: map[string]*jwt.AccountClaims{}, creds: map[string]string{"SYS": credentials(t, systemKey)},
	}
	for _, name := range accounts {
		pair, id := key(t, nkeys.CreateAccount)
		claims := jwt.NewAccountClaims(id)
		claims.Name = name
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		preload[id], err = claims.Encode(operator)
		must(t, err)
		if o.creds[name] != "" {
			name += " 2"
		}
		o.accounts[name], o.claims[name], o.creds[name] = pair, claims, credentials(t, pair)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n", token, systemID)
	for _, id := range sortedKeys(preload) {
		fmt.Fprintf(&config, "  %s: %s\n", id, preload[id])
	}
	o.srv, err = natsd.Start(natsd.Options{StoreDir: t.TempDir(), Name: name, Config: config.String() + "}\n"})
	must(t, err)
	t.Cleanup(o.srv.Shutdown)
	return o
}

// credentials writes the credentials file of a new user of the account, who is one until then, or for ever.
func credentials(t testing.TB, account nkeys.KeyPair, until ...time.Time) string {
	t.Helper()
	user, id := key(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(id)
	for _, at := range until {
		claims.Expires = at.Unix()
	}
	token, err := claims.Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	text, err := jwt.FormatUserConfig(token, seed)
	must(t, err)
	file := filepath.Join(t.TempDir(), "user.creds")
	must(t, os.WriteFile(file, text, 0o600))
	return file
}

// as is a client of one of the accounts.
func (o *operated) as(t testing.TB, account string) *source {
	t.Helper()
	nc, err := nats.Connect(o.srv.URL(), nats.UserCredentials(o.creds[account]))
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return &source{o.srv, nc, js}
}

// fillAccount makes the same streams in each account, with messages that tell whose they are.
func fillAccount(t testing.TB, s *source, account string, messages int) {
	t.Helper()
	s.create(t, jetstream.StreamConfig{Name: "INVOICES", Subjects: []string{"invoices.>"}})
	s.publish(t, "invoices.eu", messages, func(i int) []byte { return fmt.Appendf(nil, "%s %d", account, i) })
	kv, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "customers", History: 3})
	must(t, err)
	_, err = kv.PutString(t.Context(), "who", account)
	must(t, err)
	s.create(t, jetstream.StreamConfig{Name: "TMP_1"})
}

// accountsRun is what a run of several accounts prints with --json, as far as it is looked at.
type accountsRun struct {
	Tag      string `json:"tag"`
	Time     string `json:"time"`
	Accounts []struct {
		Job     string `json:"job"`
		Account string `json:"account"`
		Error   string `json:"error"`
		Summary struct {
			ID   string `json:"snapshot_id"`
			Time string `json:"time"`
		} `json:"summary"`
		Streams []struct {
			Name string `json:"name"`
		} `json:"stream_results"`
	} `json:"accounts"`
	Failed int `json:"failed_accounts"`
}

// writeJobs writes the page's jobs file for this server, beside the credentials files that it names.
func writeJobs(t *testing.T, o *operated) string {
	t.Helper()
	dir := t.TempDir()
	for _, account := range []string{"orders", "billing"} {
		must(t, os.Rename(o.creds[account], filepath.Join(dir, account+".creds")))
		o.creds[account] = filepath.Join(dir, account+".creds")
	}
	text := doctest.Example(t, accountsPage, "jobs.json")
	for _, url := range []string{"nats://n1.example.org:4222,nats://n2.example.org:4222", "nats://n1.example.org:4222"} {
		if !strings.Contains(text, url) {
			t.Fatalf("%s: the example has no server %s", accountsPage, url)
		}
		text = strings.ReplaceAll(text, url, o.srv.URL())
	}
	file := filepath.Join(dir, "jobs.json")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestSeveralAccounts runs the jobs file of the page against a server whose accounts are JWTs and have streams of the same names, and restores each
// into its own account of another server.
func TestSeveralAccounts(t *testing.T) {
	t.Parallel()
	from, to := startOperated(t, "from", "orders", "billing"), startOperated(t, "to", "orders", "billing")
	jobs := writeJobs(t, from)
	messages := map[string]int{"orders": 700, "billing": 300}
	for account, n := range messages {
		fillAccount(t, from.as(t, account), account, n)
	}
	_, dir := newRepo(t, repo.Options{})
	jetsam := command{repo: dir}
	var run accountsRun
	unmarshal(t, []byte(jetsam.run(t, 0, "backup", "--jobs", jobs, "--json", "--no-progress")), &run)
	if len(run.Accounts) != 2 || run.Failed != 0 || !strings.HasPrefix(run.Tag, "run-") {
		t.Fatalf("the run was %+v", run)
	}
	for _, a := range run.Accounts {
		var names []string
		for _, s := range a.Streams {
			names = append(names, s.Name)
		}
		if a.Job != a.Account || a.Summary.Time != run.Time || !slices.Equal(names, []string{"INVOICES", "KV_customers"}) {
			t.Errorf("job %s backed up the streams %q of account %s at %s", a.Job, names, a.Account, a.Summary.Time)
		}
	}
	if n := strings.Count(jetsam.run(t, 0, "snapshots", "--tag", run.Tag, "--json"), `"message_type":"snapshot"`); n != 2 {
		t.Errorf("%d snapshots have the tag of the run", n)
	}
	for account, n := range messages {
		jetsam.run(t, 0, "restore", "latest", "--account", account, "--server", to.srv.URL(), "--creds", to.creds[account], "--verify")
		for _, stream := range []string{"INVOICES", "KV_customers"} {
			sameImage(t, lookAt(t, from.as(t, account), stream), lookAt(t, to.as(t, account), stream))
		}
		if got := to.as(t, account).messages(t, "INVOICES"); got != uint64(n) {
			t.Errorf("account %s got %d messages back, want %d", account, got, n)
		}
	}
	restic(t, dir, "check", "--read-data")
}

// TestAccountsOfOneName: two accounts that a server calls by the same name are not backed up into snapshots that nobody could tell apart.
func TestAccountsOfOneName(t *testing.T) {
	o := startOperated(t, "twins", "shop", "shop")
	for _, account := range []string{"shop", "shop 2"} {
		fillAccount(t, o.as(t, account), account, 10)
	}
	write := func(host string) string {
		job := func(name, creds, host string) map[string]any {
			return map[string]any{"name": name, "server": o.srv.URL(), "creds": creds, "all": true, "host": host}
		}
		text, err := json.Marshal(map[string]any{"jobs": []any{job("one", o.creds["shop"], ""), job("two", o.creds["shop 2"], host)}})
		must(t, err)
		file := filepath.Join(t.TempDir(), "jobs.json")
		must(t, os.WriteFile(file, text, 0o600))
		return file
	}
	_, dir := newRepo(t, repo.Options{})
	jetsam := command{repo: dir}
	const says = "job two: it is another account than that of job one, and both are called shop on twins"
	if out := jetsam.run(t, 3, "backup", "--jobs", write("")); !strings.Contains(out, says) {
		t.Errorf("jetsam says\n%s", out)
	}
	jetsam.run(t, 0, "backup", "--jobs", write("other"))
	if out := jetsam.run(t, 0, "dump", "latest", "INVOICES", "--host", "other"); !strings.Contains(out, "shop 2 9") {
		t.Errorf("the snapshot of the other host holds\n%s", out)
	}
}
