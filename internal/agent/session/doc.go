// Package session is the guest's end of the link: it reads frames, starts an Op
// for each request, moves bulk data in both directions under flow control, and
// ends the operations when the host goes away or a new host begins a session.
//
// What an operation does is the Handler's business, and how the bytes reach the
// host is that of the connection it is given. Start with Server.Serve in
// conversation.go; op.go and body.go are what handlers work with.
package session
