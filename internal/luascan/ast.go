package luascan

// Expr is an expression: *Name, *String, *Literal, *Function, *Table, *Call, *Index or *Op.
type Expr interface{}

// Name is a variable.
type Name struct {
	Name string
	Line int
}

// String is a literal string.
type String struct {
	Value string
	Line  int
}

// Literal is nil, true, false, a number or "...".
type Literal struct {
	Text string
	Line int
}

// IsNumber reports whether the literal is a number.
func (l *Literal) IsNumber() bool { return isDigit(l.Text[0]) || l.Text[0] == '.' && l.Text != "..." }

// Function is a function's parameters and body.
type Function struct {
	Params []*Name
	Body   *Block
	Line   int
}

// Table is a table constructor.
type Table struct {
	Entries []Entry
	Line    int
}

// Entry is an entry of a table constructor. Key is nil in the array part.
type Entry struct {
	Key, Value Expr
	Line       int
}

// Call is a call of a function or, where Method is not empty, of a method of Fn.
type Call struct {
	Fn     Expr
	Method string
	Args   []Expr
	Line   int // of the name of the method, or of the arguments
}

// Index is Object[Key] or Object.name.
type Index struct {
	Object, Key Expr
	Line        int
}

// Op is an operator with its operands, or an expression in parentheses, whose operator is "(".
type Op struct {
	Op       string
	Operands []Expr
}

// Block is a sequence of statements.
type Block struct{ Stmts []Stmt }

// Stmt is a statement: *Local, *LocalFunction, *Assign, *CallStmt, *Group, *NumericFor,
// *GenericFor or *Return. Labels, goto and break are left out.
type Stmt interface{}

// Local declares local variables.
type Local struct {
	Names  []*Name
	Values []Expr
}

// LocalFunction declares a local function, which sees itself.
type LocalFunction struct {
	Name     *Name
	Function *Function
}

// Assign assigns to variables and fields; `function a.b() end` is one.
type Assign struct {
	Targets, Values []Expr
}

// CallStmt is a call as a statement.
type CallStmt struct{ Call *Call }

// Group is a statement with conditions and blocks: do, while, repeat and if. Plain is a do
// block, which runs once. Condition i, if there is one, is before block i; that of repeat is
// within its block.
type Group struct {
	Plain      bool
	Repeat     bool
	Conditions []Expr
	Blocks     []*Block
}

// NumericFor is `for v = a, b, c do`.
type NumericFor struct {
	Var  *Name
	Exps []Expr
	Body *Block
}

// GenericFor is `for a, b in … do`.
type GenericFor struct {
	Vars []*Name
	Exps []Expr
	Body *Block
}

// Return returns values.
type Return struct{ Values []Expr }
