#!/bin/sh
# Makes the files beside it with OpenSSL 3. They are committed, so that the tests need no OpenSSL; the keys are
# used nowhere else. Run it in an empty folder, and put the thumbprint it prints into tests/integration/keys/pem.rs.
set -eu
openssl ecparam -name prime256v1 -genkey -out ec-parameters-sec1.pem
openssl ec -in ec-parameters-sec1.pem -out ec-sec1.pem
openssl pkcs8 -topk8 -nocrypt -in ec-sec1.pem -out ec-pkcs8.pem
openssl ec -in ec-sec1.pem -no_public -out ec-no-public.pem
openssl ec -in ec-sec1.pem -param_enc explicit -out ec-explicit.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit -out ec-explicit-pkcs8.pem
openssl genrsa -out rsa-pkcs8.pem 2048
openssl rsa -in rsa-pkcs8.pem -traditional -out rsa-pkcs1.pem
openssl rsa -in rsa-pkcs8.pem -pubout -out rsa-public.pem
openssl rsa -in rsa-pkcs8.pem -RSAPublicKey_out -out rsa-public-pkcs1.pem
openssl rsa -in rsa-pkcs8.pem -aes128 -passout pass:secret -out rsa-encrypted.pem
openssl rsa -in rsa-pkcs8.pem -traditional -aes128 -passout pass:secret -out rsa-encrypted-pkcs1.pem
openssl req -x509 -new -key rsa-pkcs8.pem -subj /CN=example -days 1 -out certificate.pem
openssl genrsa -out rsa-1024.pem 1024
openssl ecparam -name secp384r1 -genkey -noout -out p384-sec1.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521-pkcs8.pem
openssl ecparam -name secp256k1 -genkey -noout -out secp256k1-sec1.pem
openssl genpkey -algorithm ed25519 -out ed25519.pem
openssl genpkey -algorithm RSA-PSS -out rsa-pss.pem
openssl ecparam -name prime256v1 -out parameters.pem
n=$(openssl rsa -in rsa-pkcs8.pem -noout -modulus | cut -d= -f2 | xxd -r -p | base64 -w0 | tr +/ -_ | tr -d =)
printf '{"e":"AQAB","kty":"RSA","n":"%s"}' "$n" | openssl dgst -sha256 -binary | base64 -w0 | tr +/ -_ | tr -d =
