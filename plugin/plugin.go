// Package main is the Fluent Bit plugin: the C entry points and the wiring of
// one [OUTPUT] section. It holds no logic of its own; what it calls is ordinary
// Go in the packages beside it.
//
// This file alone imports "C". It turns pointers into slices, panics into
// errors and errors into Fluent Bit's numbers, and nothing else.
package main

import "C"

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/fluent/fluent-bit-go/output"
)

const pluginName = "audit_s3"

//export FLBPluginRegister
func FLBPluginRegister(def unsafe.Pointer) int {
	return output.FLBPluginRegister(def, pluginName, "Kubernetes audit events to a Parquet table on S3")
}

//export FLBPluginInit
func FLBPluginInit(plugin unsafe.Pointer) int {
	get := func(key string) string { return output.FLBPluginConfigKey(plugin, key) }
	var in *instance
	err := elsewhere(func() (err error) { in, err = start(get); return err })
	if err != nil {
		newLogger(os.Stderr, pluginName, "info").Error("not started", "error", err)
		return output.FLB_ERROR
	}
	output.FLBPluginSetContext(plugin, in)
	return output.FLB_OK
}

//export FLBPluginFlushCtx
func FLBPluginFlushCtx(ctx, data unsafe.Pointer, length C.int, tag *C.char) int {
	in, ok := output.FLBPluginGetContext(ctx).(*instance)
	if !ok {
		return output.FLB_RETRY
	}
	// The memory is Fluent Bit's and valid until this function returns.
	chunk := unsafe.Slice((*byte)(data), int(length))
	name := C.GoString(tag)
	if err := elsewhere(func() error { return in.flush(name, chunk) }); err != nil {
		in.retry(err)
		return output.FLB_RETRY
	}
	return output.FLB_OK
}

// reloading is what Fluent Bit, since 2.2, says right before each ExitCtx, on the
// same thread: whether it goes on with another configuration. It belongs to that
// call, which has no parameter for it, and to no instance.
var reloading atomic.Bool

//export FLBPluginOutputPreExit
func FLBPluginOutputPreExit(hotReload C.int) { reloading.Store(hotReload != 0) }

//export FLBPluginExitCtx
func FLBPluginExitCtx(ctx unsafe.Pointer) int {
	reload := reloading.Swap(false)
	if in, ok := output.FLBPluginGetContext(ctx).(*instance); ok {
		if err := elsewhere(func() error { return in.close(reload) }); err != nil {
			in.log.Error("exit", "error", err)
		}
	}
	return output.FLB_OK
}

//export FLBPluginUnregister
func FLBPluginUnregister(def unsafe.Pointer) {
	output.FLBPluginUnregister(def)
}

// elsewhere runs f on a goroutine and waits for it. Fluent Bit calls flush on a
// coroutine with a C stack of some 24 to 64 KiB, on which Go's runtime must not
// do its work; and a panic that left Go would end Fluent Bit.
func elsewhere(f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				// The value may quote an event; its type and the stack do not.
				done <- fmt.Errorf("internal error, please report it: panic (%T) at %s", r, debug.Stack())
			}
		}()
		done <- f()
	}()
	return <-done
}

func main() {}
