//! F-04: the matrix of client certificates, made with openssl.
