package convert

// Tally is what the metrics tell of one event that the policy has judged: whether
// it was archived or dropped, by which rule, what kind of verb it was, how many
// values were replaced in it. Numbers alone: nothing in it is a value of the event.
type Tally struct {
	Rule       int32 // index of the policy's rule that decided; -1 if none did
	Redactions int32
	Class      VerbClass
	Dropped    bool // by the policy
}

// VerbClass is a kind of verb. The verb itself may be any text that a client
// sends, and is no label of a metric.
type VerbClass uint8

// The classes.
const (
	ClassRead   VerbClass = iota // get, list, watch
	ClassWrite                   // create, update, patch
	ClassDelete                  // delete, deletecollection
	ClassOther                   // whatever else, such as post or an unknown word
	VerbClasses                  // how many there are
)

func (c VerbClass) String() string {
	return [...]string{"read", "write", "delete", "other"}[min(c, ClassOther)]
}

func classOf(verb string) VerbClass {
	switch verb {
	case "get", "list", "watch":
		return ClassRead
	case "create", "update", "patch":
		return ClassWrite
	case "delete", "deletecollection":
		return ClassDelete
	}
	return ClassOther
}

// Tallies are those of the events in b that the policy has judged, without those
// that were taken out as repeats. They belong to b and are valid until Reset.
func (b *Batch) Tallies() []Tally { return b.tallies }

// droppedOnly appends to kept what stays of the tallies of a record that is a
// repeat: what the policy dropped stays counted as dropped, as in DropRepeats.
func droppedOnly(kept, record []Tally) []Tally {
	for _, t := range record {
		if t.Dropped {
			kept = append(kept, t)
		}
	}
	return kept
}
