package event

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestSchemaIsDocumented looks for every kind with its fields in docs/events.md.
func TestSchemaIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, kind := range strings.Split(cells[1], ",") {
			rows[strings.Trim(kind, " `")] = line
		}
	}
	for _, k := range declaredKinds(t) {
		row, ok := rows[string(k)]
		if !ok {
			t.Errorf("`%s` is not documented", k)
			continue
		}
		row = strings.ReplaceAll(row, "all of `operation_started`", rows[string(KindOperationStarted)])
		typ := reflect.TypeOf(zeroEvent(k))
		for i := range typ.NumField() {
			if name := shapeOf(typ).names[i]; !strings.Contains(row, "`"+name+"`") {
				t.Errorf("`%s` of `%s` is not documented", name, k)
			}
		}
		if k.IsDetail() != (strings.Contains(row, "*detail:*") || strings.Contains(row, "`call`") ||
			k == KindDiskFault) {
			t.Errorf("`%s`: detail is %v, not so in its row", k, k.IsDetail())
		}
	}
}
