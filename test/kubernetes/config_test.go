package kubernetes

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"

	"audit_s3/conf"
)

// section is one of a Fluent Bit configuration: its keys, with the values that the
// environment makes of them.
type section struct {
	name   string
	values map[string]string
}

var variable = regexp.MustCompile(`\$\{([A-Z0-9_]+)(?::-([^}]*))?\}`)

// configuration is what the pod's Fluent Bit reads, and the variables that it asks for.
func configuration(t *testing.T, p pod, env map[string]string) (sections []section, asked map[string]bool) {
	t.Helper()
	file := "fluent-bit.conf" // the image's own arguments
	if args := p.Spec.Containers[0].Args; len(args) > 0 {
		if len(args) != 2 || args[0] != "-c" || filepath.Dir(args[1]) != "/etc/audit_s3" {
			t.Fatalf("%s: this test does not know the arguments %q", p.owner, args)
		}
		file = filepath.Base(args[1])
	}
	text, err := os.ReadFile(filepath.Join("../../conf", file))
	if err != nil {
		t.Fatal(err)
	}
	asked = map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			sections = append(sections, section{strings.Trim(line, "[]"), map[string]string{}})
		default:
			key, value, _ := strings.Cut(line, " ")
			value = variable.ReplaceAllStringFunc(strings.TrimSpace(value), func(reference string) string {
				parts := variable.FindStringSubmatch(reference)
				asked[parts[1]] = true
				if set := env[parts[1]]; set != "" {
					return set
				}
				return parts[2]
			})
			sections[len(sections)-1].values[strings.ToLower(key)] = value
		}
	}
	return sections, asked
}

func sectionsOf(sections []section, name string) (found []map[string]string) {
	for _, s := range sections {
		if s.name == name {
			found = append(found, s.values)
		}
	}
	return found
}

// environment is what the container finds: its ConfigMap, and above that its own variables.
func environment(t *testing.T, objects []object, p pod) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, from := range p.Spec.Containers[0].EnvFrom {
		config, ok := byID(objects)["ConfigMap/"+from.ConfigMapRef.Name].(*corev1.ConfigMap)
		if !ok {
			t.Fatalf("%s takes its environment from %s, which is not there", p.owner, from.ConfigMapRef.Name)
		}
		maps.Copy(env, config.Data)
	}
	for _, v := range p.Spec.Containers[0].Env {
		env[v.Name] = v.Value
		if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
			env[v.Name] = v.ValueFrom.FieldRef.FieldPath
		}
	}
	return env
}

func TestEnvironmentIsKnown(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, p := range podsOf(objects) {
			env := environment(t, objects, p)
			_, asked := configuration(t, p, env)
			for name := range env {
				// Those of Go and of the AWS SDK are read without the configuration. The Job
				// shares the receiver's ConfigMap, and has values of its own for some.
				if !asked[name] && name != "GOMAXPROCS" && !strings.HasPrefix(name, "AWS_") && p.owner != "Job/ship-orphan" {
					t.Errorf("%s: %s has %s, which no configuration asks for", folder, p.owner, name)
				}
			}
		}
	}
}

// TestPluginTakesTheEnvironment: what the base lacks is a bucket and a cluster, and nothing else
// is wrong with what the plugin is given.
func TestPluginTakesTheEnvironment(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, p := range podsOf(objects) {
			want := []string{"bucket", "cluster"}
			if folder == "example" || folder == "ship-orphan" {
				want = nil
			}
			sections, _ := configuration(t, p, environment(t, objects, p))
			for _, output := range sectionsOf(sections, "OUTPUT") {
				if output["name"] == "exit" && p.owner == "Job/ship-orphan" {
					continue
				}
				if output["name"] != "audit_s3" {
					t.Errorf("%s: %s has an output %s", folder, p.owner, output["name"])
				}
				_, err := conf.Parse(func(key string) string { return output[key] })
				var problems conf.Problems
				errors.As(err, &problems)
				var keys []string
				for _, problem := range problems {
					keys = append(keys, problem.Key)
				}
				if !slices.Equal(keys, want) {
					t.Errorf("%s: %s: the plugin misses %q, want %q: %v", folder, p.owner, keys, want, err)
				}
			}
		}
	}
}

func TestPorts(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, p := range podsOf(objects) {
			ports := map[string]string{}
			for _, c := range p.Spec.Containers[0].Ports {
				ports[c.Name] = "0.0.0.0:" + itoa(int64(c.ContainerPort))
			}
			want := map[string]string{}
			sections, _ := configuration(t, p, environment(t, objects, p))
			for _, service := range sectionsOf(sections, "SERVICE") {
				if service["http_server"] == "on" {
					want["health"] = service["http_listen"] + ":" + service["http_port"]
				}
			}
			for _, input := range sectionsOf(sections, "INPUT") {
				if input["name"] == "http" {
					want["audit"] = input["listen"] + ":" + input["port"]
				}
			}
			for _, output := range sectionsOf(sections, "OUTPUT") {
				if output["metrics_listen"] != "" {
					want["metrics"] = output["metrics_listen"]
				}
			}
			if !maps.Equal(ports, want) {
				t.Errorf("%s: %s has ports %v, its Fluent Bit listens on %v", folder, p.owner, ports, want)
			}
		}
	}
}

// TestPaths: everything that the configuration names is mounted, and the files are there.
func TestPaths(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, p := range podsOf(objects) {
			var places []string
			sections, _ := configuration(t, p, environment(t, objects, p))
			for _, s := range sections {
				for _, key := range []string{"storage.path", "store_dir", "policy_file", "certificate_files",
					"tls.crt_file", "tls.key_file", "tls.ca_file", "db", "path"} {
					if s.values[key] != "" && (key != "path" || s.values["name"] == "tail") {
						places = append(places, strings.Split(s.values[key], ",")...)
					}
				}
			}
			if len(places) < 3 {
				t.Errorf("%s: %s names only %q", folder, p.owner, places)
			}
			for _, place := range places {
				// What is not mounted is in the image, and only policies may be.
				if strings.HasPrefix(place, "/etc/audit_s3/policy/") {
					continue
				}
				mount := mountOf(t, p, place)
				if file := strings.TrimPrefix(place, mount.MountPath+"/"); strings.HasPrefix(mount.MountPath, "/etc/") {
					holds(t, objects, p, mount.Name, file)
				}
			}
		}
	}
}

// holds tells whether a volume has a file.
func holds(t *testing.T, objects []object, p pod, volume, file string) {
	t.Helper()
	var files []string
	v := volumeOf(t, p, volume)
	if v.Secret != nil {
		for _, item := range v.Secret.Items {
			files = append(files, item.Path)
		}
	}
	if v.ConfigMap != nil {
		if config, ok := byID(objects)["ConfigMap/"+v.ConfigMap.Name].(*corev1.ConfigMap); ok {
			files = slices.Collect(maps.Keys(config.Data))
		}
	}
	if !slices.Contains(files, file) {
		t.Errorf("%s: %s is not in volume %s, which has %q", p.owner, file, volume, files)
	}
}

// TestReferences: a ConfigMap that is made here has a hash in its name, so that a change rolls
// the pods, and what pods refer to is made here, by cert-manager, or by the operator.
func TestReferences(t *testing.T) {
	hashed := regexp.MustCompile(`^(audit-receiver|audit-policy|audit-tail)-[0-9a-z]{10}$`)
	for _, folder := range rendered {
		objects := render(t, folder)
		used := map[string]bool{}
		for _, p := range podsOf(objects) {
			for _, from := range p.Spec.Containers[0].EnvFrom {
				used[from.ConfigMapRef.Name] = true
			}
			for _, v := range p.Spec.Volumes {
				if v.ConfigMap != nil && v.ConfigMap.Name != "audit-receiver-s3-ca" {
					used[v.ConfigMap.Name] = true
				}
			}
		}
		made := map[string]bool{}
		for _, c := range all[*corev1.ConfigMap](objects) {
			if made[c.Name] = true; !hashed.MatchString(c.Name) {
				t.Errorf("%s: ConfigMap %s has no hash", folder, c.Name)
			}
		}
		if !maps.Equal(made, used) {
			t.Errorf("%s: ConfigMaps %v are made, %v are used", folder, made, used)
		}
		if len(all[*certmanager.Certificate](objects)) > 0 {
			secretsAreIssued(t, folder, objects)
		}
	}
}

func secretsAreIssued(t *testing.T, folder string, objects []object) {
	issued := map[string]*certmanager.Certificate{}
	for _, c := range all[*certmanager.Certificate](objects) {
		issued[c.Spec.SecretName] = c
		if _, ok := byID(objects)["Issuer/"+c.Spec.IssuerRef.Name]; !ok || c.Spec.IssuerRef.Kind != "Issuer" {
			t.Errorf("%s: the issuer of %s is %v", folder, c.Name, c.Spec.IssuerRef)
		}
	}
	for _, i := range all[*certmanager.Issuer](objects) {
		if i.Spec.CA != nil && issued[i.Spec.CA.SecretName] == nil {
			t.Errorf("%s: nothing makes %s of Issuer %s", folder, i.Spec.CA.SecretName, i.Name)
		}
	}
	for _, v := range receiver(t, objects).Spec.Volumes {
		if v.Secret != nil && issued[v.Secret.SecretName] == nil {
			t.Errorf("%s: nothing makes the Secret %s", folder, v.Secret.SecretName)
		}
	}
}

func TestCertificates(t *testing.T) {
	objects := render(t, "example")
	signedBy := map[string][]certmanager.KeyUsage{}
	for _, c := range all[*certmanager.Certificate](objects) {
		s := c.Spec
		if s.Duration == nil || s.RenewBefore == nil || s.RenewBefore.Duration <= 0 || s.RenewBefore.Duration >= s.Duration.Duration {
			t.Errorf("%s is renewed %v before the end of %v", c.Name, s.RenewBefore, s.Duration)
		}
		// A CA whose key changed would refuse what it had signed.
		want := certmanager.RotationPolicyAlways
		if s.IsCA {
			want = certmanager.RotationPolicyNever
		}
		if s.PrivateKey == nil || s.PrivateKey.RotationPolicy != want {
			t.Errorf("%s: the key's rotationPolicy is not %s", c.Name, want)
		}
		for _, u := range s.Usages {
			if u == certmanager.UsageClientAuth || u == certmanager.UsageServerAuth {
				signedBy[s.IssuerRef.Name] = append(signedBy[s.IssuerRef.Name], u)
			}
		}
	}
	if slices.Contains(signedBy["audit-receiver-client-ca"], certmanager.UsageServerAuth) || len(signedBy["audit-receiver-client-ca"]) == 0 {
		t.Errorf("the client CA signs for %v", signedBy["audit-receiver-client-ca"])
	}
	server := byID(objects)["Certificate/audit-receiver"].(*certmanager.Certificate).Spec
	want := []string{"audit-receiver.security.svc", "audit-receiver.security.svc.cluster.local", "localhost"}
	if !slices.Equal(server.DNSNames, want) {
		t.Errorf("the receiver's names are %q, want %q", server.DNSNames, want)
	}
	if server.IssuerRef.Name == "audit-receiver-client-ca" {
		t.Error("the client CA signs for the receiver")
	}
}

// TestTailIsTheSamePipeline: what fluent-bit-tail.conf says of Fluent Bit and of the plugin is
// what fluent-bit.conf says, but for what is named here.
func TestTailIsTheSamePipeline(t *testing.T) {
	differs := map[string]bool{"certificate_files": true, "dedup_window": true}
	webhook, _ := configuration(t, receiver(t, render(t, "base")), nil)
	tail, _ := configuration(t, podsOf(render(t, "tail"))[0], nil)
	for _, name := range []string{"SERVICE", "OUTPUT"} {
		want, got := sectionsOf(webhook, name), sectionsOf(tail, name)
		if len(want) != 1 || len(got) != 1 {
			t.Fatalf("[%s] is there %d and %d times", name, len(want), len(got))
		}
		for key := range want[0] {
			if value, ok := got[0][key]; !ok || value != want[0][key] && !differs[key] {
				t.Errorf("[%s] %s is %q for tail, %q for the webhook", name, key, value, want[0][key])
			}
		}
		if len(got[0]) != len(want[0]) {
			t.Errorf("[%s] has %d keys for tail, %d for the webhook", name, len(got[0]), len(want[0]))
		}
	}
}
