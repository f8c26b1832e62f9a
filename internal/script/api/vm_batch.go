package api

import (
	"context"
	"fmt"

	"provium/internal/guest"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// batch collects the operations of one vm:batch.
type batch struct {
	ops    []guest.Op
	closed bool
}

// batchRead reads the arguments of one operation of a batch.
type batchRead func(a value.Args) (guest.Op, error)

func newBatchType() *lua.Type {
	t := &lua.Type{Name: "batch", Methods: map[string]lua.GoFunc{}}
	all := map[string]batchRead{
		"run": func(a value.Args) (guest.Op, error) {
			r, err := runRequest(a)
			return guest.RunOp{RunRequest: r}, err
		},
		"read_file": func(a value.Args) (guest.Op, error) {
			path, err := a.Path(1, "path")
			return guest.ReadFileOp{Path: path}, err
		},
		"write_file": func(a value.Args) (guest.Op, error) {
			path, err := a.Path(1, "path")
			if err != nil {
				return nil, err
			}
			data, err := a.Str(2, "data")
			return guest.WriteFileOp{Path: path, Data: []byte(data)}, err
		},
		"stat": func(a value.Args) (guest.Op, error) {
			path, follow, _, err := statArgs(a)
			return guest.StatOp{Path: path, Follow: follow}, err
		},
		"listdir": func(a value.Args) (guest.Op, error) {
			path, err := a.Path(1, "path")
			return guest.ListDirOp{Path: path}, err
		},
		"mkdir": func(a value.Args) (guest.Op, error) {
			path, parents, mode, _, err := mkdirArgs(a)
			return guest.MkdirOp{Path: path, Parents: parents, Perm: mode}, err
		},
		"unlink": func(a value.Args) (guest.Op, error) {
			path, err := a.Path(1, "path")
			return guest.UnlinkOp{Path: path}, err
		},
		"syscall": func(a value.Args) (guest.Op, error) {
			if _, isTable := a.Value(2).(*lua.Table); isTable {
				return nil, a.Errorf("the table form is not possible in a batch (use vm:syscall)")
			}
			s, err := syscallArgs(a)
			return guest.SyscallOp{Syscall: s}, err
		},
		"rename": func(a value.Args) (guest.Op, error) {
			from, to, err := renameArgs(a)
			return guest.RenameOp{From: from, To: to}, err
		},
		"mount": func(a value.Args) (guest.Op, error) {
			calls, _, err := mountArgs(a)
			if err == nil && len(calls) != 1 {
				err = a.Errorf("a bind mount with flags is two calls, which is not possible in a batch (use vm:mount)")
			}
			if err != nil {
				return nil, err
			}
			return calls[0], nil
		},
	}
	for name, read := range fileCalls() {
		all[name] = func(a value.Args) (guest.Op, error) {
			call, _, err := read(a)
			return call, err
		}
	}
	for name, read := range all {
		t.Methods[name] = func(c *lua.Call) ([]lua.Value, error) {
			b := binding.Object(c).(*batch)
			if b.closed {
				return nil, fmt.Errorf("batch:%s: this batch was sent already", name)
			}
			op, err := read(value.MethodArgs(c, "batch:"+name))
			if err == nil {
				b.ops = append(b.ops, op)
			}
			return nil, err
		}
	}
	return t
}

func vmBatch(x *env, a value.Args, vm *lab.VM) ([]lua.Value, error) {
	fn, err := a.Function(1, "fn")
	if err != nil {
		return nil, err
	}
	limit, err := onlyLimit(a, 2)
	if err != nil {
		return nil, err
	}
	b := &batch{}
	_, err = a.Call.Call(fn, x.State.NewUserdata(x.Types.Batch, b))
	b.closed = true
	if err != nil {
		return nil, err
	}
	var results []guest.Result
	err = limitedOp(x, a, vm, limit, func(ctx context.Context) (err error) {
		results, err = vm.Batch(ctx, b.ops)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(results) != len(b.ops) {
		return nil, a.Errorf("the agent answered %d of %d operations", len(results), len(b.ops))
	}
	out := x.State.NewTable()
	for i, r := range results {
		value.MustSet(out, int64(i+1), batchEntry(x, b.ops[i], r))
	}
	return []lua.Value{out}, nil
}

// batchEntry is {ok=value} or {err=message}.
func batchEntry(x *env, op guest.Op, r guest.Result) *lua.Table {
	t := x.State.NewTable()
	if r.Err != nil {
		value.MustSet(t, "err", r.Err.Error())
		return t
	}
	switch op := op.(type) {
	case guest.FileCall:
		if op.Answers() {
			value.MustSet(t, "ok", fileCallValue(r.Data))
		}
	case guest.RunOp:
		value.MustSet(t, "ok", resultHandle(x, r.Run))
	case guest.ReadFileOp:
		value.MustSet(t, "ok", r.Data)
	case guest.StatOp:
		value.MustSet(t, "ok", statTable(x, r.Stat))
	case guest.SyscallOp:
		value.MustSet(t, "ok", syscallResult(x, r.Syscall))
	case guest.ListDirOp:
		value.MustSet(t, "ok", entriesTable(x, r.Entries))
	}
	return t
}
