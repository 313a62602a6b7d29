package repo

import (
	"context"
	"iter"
)

// inOrder yields what load returns for 0 to n-1, in this order, while up to
// parallel calls of load run ahead. A call gets the value that an earlier one
// returned and that is no longer needed, to reuse its memory. After an error,
// which is yielded, and after a break no more calls begin; those that run are
// waited for, with their context cancelled.
func inOrder[T any](ctx context.Context, n, parallel int, load func(ctx context.Context, i int, reuse T) (T, error)) iter.Seq2[T, error] {
	type result struct {
		value T
		err   error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		slots := make([]chan result, max(1, min(parallel, n)))
		var begun, ended int
		begin := func(slot chan result, reuse T) {
			i := begun
			begun++
			go func() {
				value, err := load(ctx, i, reuse)
				slot <- result{value, err}
			}()
		}
		defer func() {
			cancel()
			for ; ended < begun; ended++ {
				<-slots[ended%len(slots)]
			}
		}()
		for i := range slots {
			slots[i] = make(chan result, 1)
			if i < n {
				var none T
				begin(slots[i], none)
			}
		}
		for ended < n {
			slot := slots[ended%len(slots)]
			r := <-slot
			ended++
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
			if begun < n {
				begin(slot, r.value)
			}
		}
	}
}
