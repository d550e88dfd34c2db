//! The kinds of personal data and secrets that the guard knows (CONTRACT 35).
//!
//! Decides the word of each kind and how sensitive it is where it is sent as it stands. Knows
//! nothing of how a kind is found.

use crate::request::Sensitivity;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $compact:literal, $level:ident;)+) => {
        /// One kind of thing that may have to be hidden.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant),+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            /// The word of the contract, as in `[CREDIT_CARD_1]`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $word),+ }
            }

            /// The word without underscores: models bend `_` into spaces and hyphens, so a
            /// placeholder is recognised by its letters alone.
            pub const fn letters(self) -> &'static str {
                match self { $(Kind::$variant => $compact),+ }
            }

            /// The level that it means while it is not hidden.
            ///
            /// What opens an account, proves an identity or reveals health stays in the house.
            /// What reaches a person, or dates one, is confidential. A bare name, and numbers
            /// that companies print on their letters, are everyday internal matters: otherwise
            /// a firm without a local model could not even answer a mail.
            pub const fn sensitivity(self) -> Sensitivity {
                match self { $(Kind::$variant => Sensitivity::$level),+ }
            }
        }
    };
}

kinds! {
    /// Keys, tokens, passwords.
    Secret = "SECRET", "SECRET", Restricted;
    /// An international bank account number.
    Iban = "IBAN", "IBAN", Restricted;
    /// A payment card.
    CreditCard = "CREDIT_CARD", "CREDITCARD", Restricted;
    /// The German tax id or tax number.
    TaxId = "TAX_ID", "TAXID", Restricted;
    /// The German pension insurance number, the American and the British one.
    SocialSecurity = "SOCIAL_SECURITY", "SOCIALSECURITY", Restricted;
    /// The German health insurance number.
    HealthInsurance = "HEALTH_INSURANCE", "HEALTHINSURANCE", Restricted;
    /// An identity card.
    IdCard = "ID_CARD", "IDCARD", Restricted;
    /// A passport.
    Passport = "PASSPORT", "PASSPORT", Restricted;
    /// A date on which a person was born.
    DateOfBirth = "DATE_OF_BIRTH", "DATEOFBIRTH", Confidential;
    /// A mail address.
    Email = "EMAIL", "EMAIL", Confidential;
    /// A telephone number.
    Phone = "PHONE", "PHONE", Confidential;
    /// A street with a number, and the town.
    Address = "ADDRESS", "ADDRESS", Confidential;
    /// A car.
    LicensePlate = "LICENSE_PLATE", "LICENSEPLATE", Confidential;
    /// A number that a company gave one of its people.
    EmployeeNumber = "EMPLOYEE_NUMBER", "EMPLOYEENUMBER", Confidential;
    /// A person's name.
    Person = "PERSON", "PERSON", Internal;
    /// A company, an authority, a club.
    Organization = "ORGANIZATION", "ORGANIZATION", Public;
    /// A town, a country, a river.
    Location = "LOCATION", "LOCATION", Public;
    /// A number that a company gave one of its customers.
    CustomerNumber = "CUSTOMER_NUMBER", "CUSTOMERNUMBER", Confidential;
    /// What matches a pattern of the company's own (`[[guard.pattern]]`).
    Custom = "CUSTOM", "CUSTOM", Confidential;
    /// An address in a network.
    IpAddress = "IP_ADDRESS", "IPADDRESS", Internal;
    /// A network card.
    MacAddress = "MAC_ADDRESS", "MACADDRESS", Internal;
    /// A bank, by its SWIFT code.
    Bic = "BIC", "BIC", Internal;
    /// A company, for the tax office.
    VatId = "VAT_ID", "VATID", Internal;
    /// A company, for the court.
    CommercialRegister = "COMMERCIAL_REGISTER", "COMMERCIALREGISTER", Internal;
}

impl Kind {
    /// Whether it is looked for even where `pii` is `off`: a password is no personal datum, and
    /// no company wants it anywhere.
    pub const fn is_secret(self) -> bool {
        matches!(self, Kind::Secret)
    }
}
