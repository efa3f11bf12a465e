package schema

import (
	"reflect"
	"testing"
	"testing/fstest"
)

// Every field of a declaration counts but those that say where it stands.
func TestSame(t *testing.T) {
	everyField(t, Project{})
	everyField(t, Container{})
	everyField(t, Alias{})
	everyField(t, Group{})
	load := func(blank string) Project {
		f, err := Load(t.Context(), fstest.MapFS{
			"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"`)},
			"servers/lab.cue": {},
			"projects/web/a.cue": {Data: []byte(blank + `containers: web: {environment_vars: A: {file: "/a"}, firewall: [{direction: "egress", action: "drop", destination: "10.0.0.0/8"}]}
aliases: "my-api": {container: "web", program: "http", expires_at: "2030-01-31T12:00:00Z"}
permissions: {groups: jay: {type: "jwt", algorithm: "HS256", secret: "s", claims: role: ["a", 1]}, permissions: jay: http: [80]}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return f.Projects[0]
	}
	if !Same(load(""), load("\n\n ")) {
		t.Error("a place counts")
	}
}

func everyField[T any](t *testing.T, zero T) {
	t.Helper()
	of := reflect.TypeFor[T]()
	for i := range of.NumField() {
		if f := of.Field(i); f.IsExported() && f.Type != reflect.TypeFor[Pos]() {
			other := zero
			fill(t, reflect.ValueOf(&other).Elem().Field(i))
			if Same(zero, other) {
				t.Errorf("%s.%s does not count", of.Name(), f.Name)
			}
			if !Same(other, other) {
				t.Errorf("%s.%s differs from itself", of.Name(), f.Name)
			}
		}
	}
}

// fill puts something into v.
func fill(t *testing.T, v reflect.Value) {
	if s, ok := v.Addr().Interface().(*Secret); ok {
		*s = Plain("x")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint16:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		if v.Type().String() == "time.Time" {
			v.Set(reflect.ValueOf(v.Interface()).MethodByName("AddDate").Call([]reflect.Value{reflect.ValueOf(1), reflect.ValueOf(0), reflect.ValueOf(0)})[0])
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Type != reflect.TypeFor[Pos]() && v.Field(i).CanSet() {
				fill(t, v.Field(i))
				return
			}
		}
	default:
		t.Fatalf("nothing fills a %s", v.Type())
	}
}
