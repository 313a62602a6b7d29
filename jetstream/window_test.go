package jetstream

import "testing"

func TestWindowsShareABudget(t *testing.T) {
	w := windows{budget: windowBudget}
	total := 0
	for i, want := range []int{8, 8, 8, 8, 1, 1} {
		n := w.take(0)
		if n != want<<20 {
			t.Errorf("window %d is %d bytes, want %d MiB", i, n, want)
		}
		total += n
	}
	if n := w.take(maxWindow); n != maxWindow {
		t.Errorf("asked for %d and got %d bytes", maxWindow, n)
	}
	w.give(total)
	w.give(maxWindow)
	if n := w.take(0); n != defaultWindow {
		t.Errorf("with nothing in use the window is %d", n)
	}
}

func TestWindowsOfASlowLine(t *testing.T) {
	w := windows{budget: windowBudget}
	next := func(end func()) int {
		n := w.take(0)
		defer w.give(n)
		end()
		return n >> 20
	}
	w.slow() // with no snapshot under way it was not for them
	for i, step := range []struct {
		end  func()
		want int
	}{
		{w.slow, 8}, {w.slow, 2}, {w.slow, 1}, {w.well, 1}, {w.well, 2}, {w.well, 4}, {w.well, 8}, {w.well, 8}, {w.slow, 8}, {w.well, 2},
	} {
		if got := next(step.end); got != step.want {
			t.Errorf("window %d is %d MiB, want %d", i, got, step.want)
		}
	}
}

func TestChunkSizes(t *testing.T) {
	for _, c := range []struct{ wanted, window, want int }{
		{0, maxWindow, 1 << 20},
		{0, defaultWindow, 1 << 20},
		{0, 2 << 20, 256 << 10},
		{0, minWindow, 128 << 10},
		{0, 1 << 10, minChunk},
		{1 << 10, maxWindow, 1 << 10},
	} {
		if got := chunkSize(c.wanted, c.window); got != c.want {
			t.Errorf("chunks of %d, wanted %d: %d, want %d", c.window, c.wanted, got, c.want)
		}
	}
}
