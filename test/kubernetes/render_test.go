// Package kubernetes holds the manifests of conf/kubernetes against the Kubernetes API's own
// types, against what its admission would say of the pods, and against the configuration that
// runs in them. No cluster is involved: what only an API server or a kubelet decides, such as
// whether a pod is scheduled, is not tested here.
package kubernetes

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const manifests = "../../conf/kubernetes"

// rendered are the folders that an operator may render, with what stands at the place of the
// pods' controller.
var rendered = []string{"base", "overlays/durable", "overlays/minio", "overlays/cert-manager", "example", "ship-orphan", "tail"}

// receivers are those of them that run the receiver.
var receivers = []string{"base", "overlays/durable", "overlays/minio", "overlays/cert-manager", "example"}

// object is one that was rendered.
type object struct {
	runtime.Object
	meta metav1.Object
	kind string
}

func (o object) id() string { return o.kind + "/" + o.meta.GetName() }

// render does what `kubectl kustomize` does, with the same restrictions, and decodes every
// object strictly: an unknown or a repeated field is an error.
func render(t *testing.T, folder string) []object {
	t.Helper()
	return decode(t, build(t, filesys.MakeFsOnDisk(), filepath.Join(manifests, folder)))
}

func build(t *testing.T, files filesys.FileSystem, folder string) resmap.ResMap {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, folder)
	if err != nil {
		t.Fatalf("%s does not render: %v", folder, err)
	}
	return resources
}

func decode(t *testing.T, resources resmap.ResMap) []object {
	t.Helper()
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decodeYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func decodeYAML(text []byte) ([]object, error) {
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), certmanager.AddToScheme(types)); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	var objects []object
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	buffer := make([]byte, len(text)+1)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		decoded, kind, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object{decoded, decoded.(metav1.Object), kind.Kind})
	}
}

// all returns the objects of one type.
func all[T runtime.Object](objects []object) (found []T) {
	for _, o := range objects {
		if typed, ok := o.Object.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// only returns the one object of a type.
func only[T runtime.Object](t *testing.T, objects []object) T {
	t.Helper()
	found := all[T](objects)
	if len(found) != 1 {
		t.Fatalf("there are %d of %T, want one", len(found), *new(T))
	}
	return found[0]
}

func TestEveryFolderRenders(t *testing.T) {
	var found []string
	err := filepath.WalkDir(manifests, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "kustomization.yaml" && !strings.Contains(path, "/components/") {
			folder, _ := filepath.Rel(manifests, filepath.Dir(path))
			found = append(found, folder)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(found); !slices.Equal(found, slices.Sorted(slices.Values(rendered))) {
		t.Errorf("kustomizations are in %q, this test renders %q", found, rendered)
	}
	for _, folder := range rendered {
		t.Run(folder, func(t *testing.T) {
			ids := map[string]bool{}
			for _, o := range render(t, folder) {
				if ids[o.id()] {
					t.Errorf("%s is there twice", o.id())
				}
				ids[o.id()] = true
				cluster := o.kind == "Namespace" || o.kind == "PriorityClass"
				if cluster == (o.meta.GetNamespace() != "") {
					t.Errorf("%s has the namespace %q", o.id(), o.meta.GetNamespace())
				}
			}
			if len(ids) == 0 {
				t.Error("nothing was rendered")
			}
		})
	}
}

// TestStrict shows that the decoding above refuses what it should.
func TestStrict(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  type: ClusterIP\n"
	const certificate = "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata:\n  name: a\nspec:\n  secretName: a\n"
	for text, want := range map[string]string{
		service:                                "",
		certificate:                            "",
		service + "  sesionAffinity: ClientIP": `unknown field "spec.sesionAffinity"`,
		certificate + "  renewBfore: 1h":       `unknown field "spec.renewBfore"`,
		service + "  type: NodePort":           `key "type" already set`,
		"apiVersion: v2\nkind: Service":        "no kind",
	} {
		_, err := decodeYAML([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", text, err, want)
		}
	}
}

// combination renders the base with components in one order, from a kustomization in memory.
func combination(t *testing.T, components ...string) []object {
	t.Helper()
	files := filesys.MakeFsInMemory()
	for _, folder := range []string{"kubernetes", "policy"} {
		copyInto(t, files, filepath.Join("../../conf", folder), "/"+folder)
	}
	text := "resources: [../base]\ncomponents:\n"
	for _, c := range components {
		text += "- ../components/" + c + "\n"
	}
	if err := files.WriteFile("/kubernetes/combination/kustomization.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	return decode(t, build(t, files, "/kubernetes/combination"))
}

func copyInto(t *testing.T, files filesys.FileSystem, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile(to+strings.TrimPrefix(path, from), text)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// byID allows to compare objects whatever their order.
func byID(objects []object) map[string]runtime.Object {
	byID := map[string]runtime.Object{}
	for _, o := range objects {
		byID[o.id()] = o.Object
	}
	return byID
}

func names(objects []object) []string { return slices.Sorted(maps.Keys(byID(objects))) }
