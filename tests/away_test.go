package tests

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
	"jetsam/streamlog"
)

// absent is storage that cannot be reached at some of its calls.
type absent struct {
	storagetest.Faulty
	calls atomic.Int64
	at    int64 // the first of them, from 1
	n     int64 // how many they are
}

func newAbsent(be storage.Backend) *absent {
	a := &absent{Faulty: storagetest.Faulty{Backend: be}}
	a.Before = func(storagetest.Op, storage.File) error {
		if call := a.calls.Add(1); call >= a.at && call-a.at < a.n {
			return errAway
		}
		return nil
	}
	return a
}

// arm counts calls from now on.
func (a *absent) arm(at, n int64) {
	a.calls.Store(0)
	a.at, a.n = at, n
}

// lookers are what reads a repository and may say that something of it is lost. Each returns all that it says, but for warnings.
func (w *world) lookers(t *testing.T, dst *source) map[string]func(ctx context.Context, r *repo.Repo) (string, error) {
	c := connect(t, dst)
	of := func(ctx context.Context, r *repo.Repo) (*repo.Reader, []*snapshot.Snapshot, error) {
		var all []*snapshot.Snapshot
		for sn, err := range r.Snapshots(ctx) {
			if err != nil {
				return nil, nil, err
			}
			all = append(all, sn)
		}
		snapshot.Sort(all)
		rd, err := r.LoadIndex(ctx, nil)
		return rd, all, err
	}
	planned := func(p *restore.Plan, err error) (string, error) {
		if err != nil {
			return "", err
		}
		var out strings.Builder
		for _, s := range p.Streams {
			fmt.Fprintln(&out, s.Name, s.Messages, s.Damage, s.Lost, s.Nothing)
		}
		return out.String() + strings.Join(p.Warnings, "; "), nil
	}
	plan := func(o restore.Options, probe bool) func(ctx context.Context, r *repo.Repo) (string, error) {
		return func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			p, err := restore.NewPlan(ctx, rd, all[1], c, o)
			if err == nil && probe {
				err = p.Probe(ctx)
			}
			return planned(p, err)
		}
	}
	check := func(o repo.CheckOptions) func(ctx context.Context, r *repo.Repo) (string, error) {
		return func(ctx context.Context, r *repo.Repo) (string, error) {
			o.Contents = streamlog.NewChecker()
			report, err := r.Check(ctx, o, nil)
			if err != nil {
				return "", err
			}
			return fmt.Sprint(report.Findings), nil
		}
	}
	whole := restore.Options{Selection: allStreams, SkipDamaged: true}
	cut, filtered, moment := whole, whole, whole
	cut.Selection, cut.Cut = selectOf("ORDERS"), restore.Cut{FromSeq: 3, UntilSeq: 70}
	filtered.Cut = restore.Cut{Subjects: []string{"orders.b"}}
	moment.Cut = restore.Cut{At: w.between}
	return map[string]func(ctx context.Context, r *repo.Repo) (string, error){
		"plan": plan(whole, false), "plan of all data": plan(whole, true), "plan of a cut": plan(cut, false), "plan of a filter": plan(filtered, false), "check": check(repo.CheckOptions{}),
		"check of all data": check(repo.CheckOptions{ReadData: true}),
		"plan as of a time": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			return planned(restore.NewPlanAt(ctx, rd, all, c, moment))
		},
		"export": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			x, err := restore.NewExport(ctx, rd, all[1], filepath.Join(t.TempDir(), "x"), whole)
			if err != nil {
				return "", err
			}
			res, err := x.Run(ctx)
			if err != nil {
				return "", err
			}
			said, _ := planned(x.Plan, nil)
			for i, s := range res.Streams {
				if errors.Is(s.Err, storage.ErrUnreachable) && s.Lost == x.Streams[i].Lost {
					return "", s.Err
				}
				said += fmt.Sprintln(s.Messages, s.Err, s.Lost)
			}
			return said, nil
		},
		"dump": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			in, err := restore.Read(ctx, rd, all[1], restore.Options{Selection: selectOf("ORDERS"), SkipDamaged: true})
			if err != nil {
				return "", err
			}
			n := 0
			for _, err := range in.Messages(ctx) {
				if err != nil {
					return "", err
				}
				n++
			}
			last, err := in.Last(ctx, "orders.a")
			return fmt.Sprint(n, last != nil, in.Lost()), err
		},
		"find": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			found, lost, err := restore.Find(ctx, rd, all, restore.Query{Selection: allStreams})
			return fmt.Sprint(len(found), lost), err
		},
		"diff": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			changes, err := restore.Diff(ctx, rd, all[0], all[1], allStreams)
			return fmt.Sprint(changes), err
		},
		"survey": func(ctx context.Context, r *repo.Repo) (string, error) {
			rd, all, err := of(ctx, r)
			if err != nil {
				return "", err
			}
			v, err := restore.NewSurvey(ctx, rd, all[1], connect(t, w.src), allStreams)
			if err != nil {
				return "", err
			}
			var out strings.Builder
			for _, s := range v.Streams {
				fmt.Fprintln(&out, s.Name, s.Health, s.Why, s.Damage)
			}
			return out.String(), nil
		},
		"repair of snapshots": func(ctx context.Context, r *repo.Repo) (string, error) {
			read, out, err := r.RepairSnapshots(ctx, repo.RepairSnapshotsOptions{DryRun: true}, streamlog.NewMender().Mend, nil)
			said := fmt.Sprintln(read, len(out))
			for _, x := range out {
				said += fmt.Sprintln(x.Damaged, x.Whole, x.Err)
			}
			return said, err
		},
		"repair of packs": func(ctx context.Context, r *repo.Repo) (string, error) {
			out, err := r.RepairPacks(ctx, repo.RepairPacksOptions{DryRun: true, Contents: streamlog.NewChecker()}, nil)
			if err != nil {
				return "", err
			}
			said := ""
			for _, p := range out.Packs {
				if p.Left != nil && len(p.Lost) == 0 {
					return "", p.Left
				}
				said += fmt.Sprintln(p.ID, p.Reason, p.Saved, len(p.Lost), p.Left)
			}
			return said, nil
		},
	}
}

// TestAwayAtEveryCall lets the storage be away at each call that a command makes of it: at that one alone, for the second try too, and from that one on. What is lost of the
// repository nobody can say then: a command says what it says of a storage that is there, or that this one cannot be reached.
func TestAwayAtEveryCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dst := startServer(t, natsd.Options{})
	hurt := cloneStorage(t, w.both)
	pack := lastDataPack(t, w)
	data, err := hurt.Load(t.Context(), pack, 0, -1)
	must(t, err)
	data[0] ^= 1
	must(t, hurt.Remove(t.Context(), pack))
	must(t, hurt.Save(t.Context(), pack, data))
	for kind, be := range map[string]storage.Backend{"sound": w.both, "damaged": hurt} {
		for name, look := range w.lookers(t, dst) {
			t.Run(kind+"/"+strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
				run := func(at, n int64) (calls int64, said string, err error) {
					a := newAbsent(cloneStorage(t, be))
					r, err := repo.Open(t.Context(), a, secret.New(password), faultOptions(nil))
					must(t, err)
					a.arm(at, n)
					said, err = look(t.Context(), r)
					return a.calls.Load(), said, err
				}
				calls, want, wantErr := run(1, 0)
				t.Logf("%d calls: %s, %v", calls, want, wantErr)
				for at := int64(1); at <= calls; at++ {
					for _, n := range []int64{1, 2, math.MaxInt64} {
						_, said, err := run(at, n)
						if errors.Is(err, storage.ErrUnreachable) && !errors.Is(err, repo.ErrCorrupt) && !strings.Contains(err.Error(), "lost") {
							continue
						}
						if said != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
							t.Errorf("away at call %d, for %d calls: %s, %v", at, n, said, err)
						}
					}
				}
			})
		}
	}
}
