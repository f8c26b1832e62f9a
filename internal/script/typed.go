package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"provium/internal/dialog"
	"provium/internal/lua"
	"provium/internal/luacomplete"
	"provium/internal/script/api"
	"provium/internal/script/failure"
	"provium/internal/script/rewind"
	"provium/internal/script/value"
	"provium/internal/topology"
)

// Dialog is the code's end of a dialog.Exchange. It is used by one goroutine at a time.
type Dialog interface {
	// Receive waits for the next wish. io.EOF ends the conversation.
	Receive(ctx context.Context) (dialog.Typed, error)
	// Answer shows what came of the last wish.
	Answer(dialog.Shown) error
	// Breaks gets a value when the person wants what runs to end.
	Breaks() <-chan struct{}
}

// Interactive says with what a conversation outside of test files begins.
type Interactive struct {
	Env
	Name    string // of the VM; the global `vm`
	Profile string
	Fixture string // the VM comes from this fixture; "" boots Profile
	Opts    *topology.BootOpts
	Dialog  Dialog
	// Ready is called when the VM is booted, with its description.
	Ready func(text string)
}

// Converse boots a VM and runs what a person types, until that ends. It returns when all that
// was made is closed.
func Converse(ctx context.Context, i Interactive) (err error) {
	w := newWorld(i.Env, "repl")
	s := w.newSession(ctx, "repl", "", w.fileLab, nil)
	defer s.watchHost()()
	if err := s.open(nil); err != nil {
		return err
	}
	defer s.close("the session")
	e := newExecution(s, "", nil)
	var cancel context.CancelCauseFunc
	e.ctx, cancel = context.WithCancelCause(ctx)
	defer cancel(nil)
	e.cancel = cancel
	e.tasks.live++
	s.setCurrent(e)
	defer s.setCurrent(nil)
	p, err := s.newPrompt(ctx, nil)
	if err != nil {
		return err
	}
	if i.Fixture != "" {
		err = p.assign(ctx, "vm", `return provium:vm_fixture(...)`, i.Fixture)
	} else if err = s.state.Block(func() error { return s.bootTyped(ctx, i) }); err == nil {
		err = p.assign(ctx, "vm", `return provium:vm(...)`, i.Name)
	}
	if err != nil {
		return plainError(err)
	}
	s.points.Start()
	defer s.dropStates()
	i.Ready(p.text(ctx, s.state.Global("vm")))
	return p.converse(ctx, i.Dialog, s.state.Block)
}

// bootTyped declares and boots the VM.
func (s *session) bootTyped(ctx context.Context, i Interactive) error {
	vm, err := s.root.DeclareVM(i.Name, i.Profile, i.Opts)
	if err != nil {
		return err
	}
	return vm.Boot(ctx, nil)
}

// plainError is an error of Lua without where in our own code it was raised.
func plainError(err error) error {
	var raised *lua.Error
	if errors.As(err, &raised) {
		_, text, ok := strings.Cut(raised.Message, "session:1: ")
		if ok {
			return errors.New(text)
		}
	}
	return err
}

// prompt runs pieces of Lua for a person. Its methods are called with the baton held.
type prompt struct {
	s      *session
	env    *lua.Table // global variables of the pieces; nil: those of the state
	names  *lua.Table // what env has beside the globals; nil without env
	show   *lua.Function
	setEnv *lua.Function
}

// promptSource makes the functions of a prompt.
const promptSource = `local setupvalue, tostring, setmetatable = debug.setupvalue, tostring, setmetatable
return function(v) return tostring(v) end,
  function(chunk, env) setupvalue(chunk, 1, env) end,
  function(names, globals)
    return setmetatable({}, {
      __index = function(_, key)
        local v = names[key]
        if v == nil then v = globals[key] end
        return v
      end,
      __newindex = function(_, key, v)
        if names[key] ~= nil then names[key] = v else globals[key] = v end
      end,
    })
  end`

// newPrompt returns a prompt. names are variables that its code finds beside the globals;
// nil for none.
func (s *session) newPrompt(ctx context.Context, names *lua.Table) (*prompt, error) {
	chunk, err := s.state.LoadString(promptSource, "session")
	if err != nil {
		return nil, err
	}
	made, err := s.state.Call(ctx, chunk)
	if err != nil {
		return nil, err
	}
	p := &prompt{s: s, show: made[0].(*lua.Function), setEnv: made[1].(*lua.Function)}
	if names != nil {
		env, err := s.state.Call(ctx, made[2], names, s.state.Globals())
		if err != nil {
			return nil, err
		}
		p.names, p.env = names, env[0].(*lua.Table)
	}
	return p, nil
}

// assign sets a global variable to what a piece of Lua of ours returns.
func (p *prompt) assign(ctx context.Context, name, source string, arguments ...lua.Value) error {
	chunk, err := p.s.state.LoadString(source, "session")
	if err != nil {
		return err
	}
	values, err := p.s.state.Call(ctx, chunk, arguments...)
	if err == nil && len(values) > 0 {
		err = p.s.state.SetGlobal(name, values[0])
	}
	return err
}

// converse runs what a person types until that ends. block releases the baton.
func (p *prompt) converse(ctx context.Context, d Dialog, block func(func() error) error) error {
	for {
		var typed dialog.Typed
		err := block(func() (err error) {
			typed, err = d.Receive(ctx)
			return err
		})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var shown dialog.Shown
		switch {
		case typed.Complete:
			shown.Names = p.complete(typed.Source)
		default:
			if wish, ok, err := rewind.Parse(typed.Source); ok && !p.has(rewind.Word) {
				shown = p.rewind(ctx, d, wish, err, block)
			} else {
				shown = p.evaluate(ctx, d, typed.Source)
			}
		}
		if err := block(func() error { return d.Answer(shown) }); err != nil {
			return err
		}
	}
}

// typedName is the name of a piece of Lua in errors.
const typedName = "typed"

// compile compiles a piece of Lua: an expression, or statements. Variables that it declares
// as local on the outermost level at its beginning are global, since the piece ends at once.
func (p *prompt) compile(source string) (fn *lua.Function, incomplete bool, err error) {
	text := strings.TrimSpace(source)
	if rest, ok := strings.CutPrefix(text, "local "); ok && !strings.Contains(text, "<const>") &&
		!strings.Contains(text, "<close>") {
		text = rest
	}
	if rest, ok := strings.CutPrefix(text, "="); ok { // as older interpreters of Lua have it
		text = rest
	}
	if fn, err = p.s.state.LoadString("return "+text, typedName); err == nil {
		return fn, false, nil
	}
	fn, err = p.s.state.LoadString(text, typedName)
	return fn, err != nil && strings.HasSuffix(err.Error(), "near <eof>"), err
}

// evaluate runs a piece of Lua.
func (p *prompt) evaluate(ctx context.Context, d Dialog, source string) dialog.Shown {
	fn, incomplete, err := p.compile(source)
	if incomplete {
		return dialog.Shown{Incomplete: true}
	}
	if err != nil {
		return dialog.Shown{Text: err.Error()}
	}
	ctx, stop := breakable(ctx, d)
	defer stop()
	if p.env != nil {
		if _, err := p.s.state.Call(ctx, p.setEnv, fn, p.env); err != nil {
			return dialog.Shown{Text: err.Error()}
		}
	}
	values, err := p.s.state.Call(ctx, fn)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var parts []string
	if err != nil {
		parts = append(parts, typedError(err))
	}
	for _, v := range values {
		parts = append(parts, p.text(context.WithoutCancel(ctx), v))
	}
	if e := p.s.current; e != nil && e.meta == nil {
		parts = append(parts, e.takeFindings(p.s.root.AllVMs())...)
	}
	return dialog.Shown{Text: strings.Join(parts, "\n")}
}

// rewind brings back a state of the guests before an operation, unless the wish has an error.
func (p *prompt) rewind(ctx context.Context, d Dialog, w rewind.Wish, err error,
	block func(func() error) error) dialog.Shown {
	ctx, stop := breakable(ctx, d)
	defer stop()
	var text string
	if err == nil {
		err = block(func() (err error) {
			text, err = p.s.points.Back(ctx, w)
			return err
		})
	}
	if err != nil {
		text = typedError(err)
	}
	return dialog.Shown{Text: text}
}

// breakable returns a context that the person's wish to break ends. stop must be called.
func breakable(ctx context.Context, d Dialog) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for {
			select {
			case <-d.Breaks():
				cancel(errBreak)
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

var errBreak = errors.New("interrupted")

// typedError is an error of a piece of Lua as it is shown.
func typedError(err error) string {
	if errors.Is(err, errBreak) {
		return errBreak.Error()
	}
	var raised *lua.Error
	if !errors.As(err, &raised) {
		return err.Error()
	}
	text := value.ErrorText(raised)
	stack := failure.Stack(raised.Traceback, "", failure.Hidden{operatorChunk + ":"})
	if strings.Count(stack, "\n") > 1 {
		text += "\n" + stack
	}
	return text
}

// text is a value as it is shown.
func (p *prompt) text(ctx context.Context, v lua.Value) string {
	leaf := func(v lua.Value) string {
		switch v.(type) {
		case *lua.Userdata, *lua.Function, *lua.Coroutine:
			if values, err := p.s.state.Call(ctx, p.show, v); err == nil && len(values) > 0 {
				if text, ok := values[0].(string); ok {
					return text
				}
			}
		}
		return value.Format(v)
	}
	switch v := v.(type) {
	case string:
		return block(v)
	case *lua.Userdata:
		text := leaf(v)
		if v.Type() == nil {
			return text
		}
		for _, output := range []string{"stdout", "stderr"} {
			if out := p.field(v, output); out != "" {
				text += "\n" + output + ": " + block(out)
			}
		}
		return text
	}
	return value.Render(v, leaf)
}

// field returns a text that a userdata has as a field, "" for none.
func (p *prompt) field(u *lua.Userdata, name string) string {
	if !slices.Contains(u.Type().Fields, name) {
		return ""
	}
	v, ok, err := u.Type().Index(nil, u.Object(), name)
	if !ok || err != nil {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// maxBlock is how much of a text is shown, in bytes.
const maxBlock = 64 << 10

// block shows a text of one line as a literal of Lua, one of several lines as it is.
func block(text string) string {
	body := strings.TrimSuffix(text, "\n")
	if len(body) > maxBlock {
		body = fmt.Sprintf("%s\n… (%d bytes)", body[:maxBlock], len(text))
	}
	if !strings.Contains(body, "\n") {
		return value.Quote(text)
	}
	return "[[\n" + body + "\n]]"
}

// keywords are the words of Lua that begin or join what is typed.
var keywords = []string{"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
	"local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

// complete returns the names that may stand in place of the last one of a line.
func (p *prompt) complete(line string) (names []string) {
	start := strings.LastIndexFunc(line, func(r rune) bool {
		return r != '_' && r != '.' && r != ':' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) + 1
	path := line[start:]
	last := strings.LastIndexAny(path, ".:")
	word := path[last+1:]
	var all []string
	if last < 0 {
		all = slices.Concat(keywords, []string{rewind.Word}, stringKeys(p.s.state.Globals()), stringKeys(p.names))
	} else if object, ok := p.lookUp(path[:last]); ok {
		all = p.members(object, path[last] == ':')
	}
	names = luacomplete.Names(line, p.classOf)
	if strings.HasPrefix(path, ":") || strings.HasPrefix(path, ".") || len(names) > 0 {
		return names // of what a call returns, or options
	}
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		if strings.HasPrefix(name, word) && (word != "" || name != "") {
			names = append(names, line[:start]+path[:last+1]+name)
		}
	}
	return names
}

// classOf returns the class of a variable's value in the description of the API.
func (p *prompt) classOf(name string) string {
	v, _ := p.lookUp(name)
	u, ok := v.(*lua.Userdata)
	if !ok || u.Type() == nil {
		return ""
	}
	switch name := u.Type().Name; name {
	case "RunResult":
		return "run_result"
	case "syscall":
		return "call"
	default:
		return strings.ReplaceAll(name, " ", "_")
	}
}

// lookUp returns the value of a path like "a.b", without calling anything of Lua.
func (p *prompt) lookUp(path string) (v lua.Value, ok bool) {
	for i, name := range strings.Split(path, ".") {
		var next lua.Value
		switch at := v.(type) {
		case nil:
			if i > 0 {
				return nil, false
			}
			if p.names != nil {
				next = p.names.Get(name)
			}
			if next == nil {
				next = p.s.state.Global(name)
			}
		case *lua.Table:
			next = at.Get(name)
		case *lua.Userdata:
			if _, isLab := api.LabOf(at.Object()); isLab {
				next, _, _ = at.Type().Index(nil, at.Object(), name)
			}
		}
		if next == nil {
			return nil, false
		}
		v = next
	}
	return v, true
}

// has reports whether there is a variable of a name.
func (p *prompt) has(name string) bool {
	_, ok := p.lookUp(name)
	return ok
}

// members returns the names that may follow a value; methods alone behind a colon.
func (p *prompt) members(v lua.Value, methods bool) (names []string) {
	switch v := v.(type) {
	case *lua.Table:
		return stringKeys(v)
	case string:
		if t, ok := p.s.state.Global("string").(*lua.Table); ok {
			return stringKeys(t)
		}
	case *lua.Userdata:
		if v.Type() == nil {
			return nil
		}
		for name := range v.Type().Methods {
			names = append(names, name)
		}
		if methods {
			return names
		}
		names = append(names, v.Type().Fields...)
		if l, ok := api.LabOf(v.Object()); ok {
			for _, m := range l.Members() {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

func stringKeys(t *lua.Table) (names []string) {
	if t == nil {
		return nil
	}
	for k := range t.All() {
		if name, ok := k.(string); ok && value.IsName(name) {
			names = append(names, name)
		}
	}
	return names
}
